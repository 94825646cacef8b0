"""skrl in both directions: gaussjax policies inside its agents, and policies from its checkpoints.

`torch_model` and `jax_model` make models that skrl's agents take. `read` makes a policy of a checkpoint::

    policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), observation_space, action_space)
    models["policy"] = gaussjax.interop.skrl.torch_model(policy, device=env.device)
    loaded = gaussjax.interop.skrl.read("agent_10000.pt", policy)
"""

from gaussjax.interop.skrl.checkpoints import CheckpointError as CheckpointError
from gaussjax.interop.skrl.checkpoints import arrays as arrays
from gaussjax.interop.skrl.checkpoints import params as params
from gaussjax.interop.skrl.checkpoints import read as read
from gaussjax.interop.skrl.checkpoints import statistics as statistics
from gaussjax.interop.skrl.models import jax_model as jax_model
from gaussjax.interop.skrl.models import torch_model as torch_model

"""Migration from skrl: a safe reader of skrl's checkpoints, and skrl's calling conventions for gaussjax policies.

A checkpoint holds arrays under the names that a user gave to layers, but no sizes, spaces or options. Make the
policy first; a map from the names in skrl to those in gaussjax then assigns the arrays::

    policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), observation_space, action_space)
    modules = gaussjax.interop.skrl.read("agent_10000.pt")
    params = gaussjax.interop.skrl.params(policy.spec, modules["policy"], {
        "net.0": "layers.dense_0", "net.2": "layers.dense_1", "net.4": "head.mean", "log_std_parameter": "head.log_std",
    })
"""

from gaussjax.interop.skrl.checkpoints import CheckpointError as CheckpointError
from gaussjax.interop.skrl.checkpoints import params as params
from gaussjax.interop.skrl.checkpoints import read as read
from gaussjax.interop.skrl.checkpoints import statistics as statistics
from gaussjax.interop.skrl.models import jax_model as jax_model
from gaussjax.interop.skrl.models import torch_model as torch_model

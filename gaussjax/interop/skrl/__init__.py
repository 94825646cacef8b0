"""Coming from skrl: its checkpoints, read without running anything in them, and its calling conventions.

A checkpoint holds arrays under the names that a user gave to layers, and no sizes, spaces or options. So the
policy is made first, and a map from skrl's names to gaussjax's assigns the arrays::

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
from gaussjax.interop.skrl.conventions import Profile as Profile
from gaussjax.interop.skrl.conventions import profile as profile

"""Policies of Stable-Baselines3 and SBX as gaussjax policies.

Nothing in a file is executed::

    loaded = gaussjax.interop.sb3.read("ppo_pendulum.zip", statistics="vecnormalize.pkl")
    actions = loaded.act(observations).actions
    gaussjax.save("policy.safetensors", loaded.policy, loaded.params, normalizer=loaded.normalizer)
"""

from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.sb3.checkpoints import read as read

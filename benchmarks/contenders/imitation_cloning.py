"""Behavioural cloning by the library imitation."""

from __future__ import annotations

import gymnasium
import numpy as np
from imitation.algorithms import bc
from imitation.data.types import Transitions
from stable_baselines3.common.policies import ActorCriticPolicy

from benchmarks.contenders.with_torch import hardware
from benchmarks.inputs import recorded
from benchmarks.worker import Built

__all__ = ["cloning", "hardware"]


def cloning(device: str, rows: int, observations: int, actions: int, width: int, batch_size: int) -> Built:
    """One epoch."""
    seen, done = recorded(rows, observations, actions)
    observed = gymnasium.spaces.Box(-np.inf, np.inf, (observations,), np.float32)
    acted = gymnasium.spaces.Box(-1.0, 1.0, (actions,), np.float32)
    # The value has no layers of its own, because cloning does not train it.
    policy = ActorCriticPolicy(observed, acted, lambda _: 1e-3, net_arch={"pi": [width, width], "vf": []})
    trainer = bc.BC(
        observation_space=observed,
        action_space=acted,
        rng=np.random.default_rng(0),
        policy=policy,
        # Its loader reads the following observations too.
        demonstrations=Transitions(seen, done, np.array([{}] * rows), seen, np.zeros(rows, bool)),
        batch_size=batch_size,
        device=device,
    )
    return Built(lambda: trainer.train(n_epochs=1, progress_bar=False, log_interval=10**9), [0.0])

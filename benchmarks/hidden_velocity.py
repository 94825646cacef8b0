"""Pendulum-v1 without its velocity, which a policy has to infer from earlier observations."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

NAME = "HiddenVelocityPendulum-v0"


def make(**options: Any) -> gymnasium.Env:
    environment = gymnasium.make("Pendulum-v1", **options).unwrapped
    angle = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    return gymnasium.wrappers.TransformObservation(environment, lambda observation: observation[:2], angle)


gymnasium.register(NAME, entry_point=make, max_episode_steps=200)

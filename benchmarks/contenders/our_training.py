"""gaussjax's training."""

from __future__ import annotations

from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built
from gaussjax import envs
from gaussjax.training import ppo as algorithm

__all__ = ["hardware", "ppo"]


def ppo(device: str, environment: str, num_envs: int, num_steps: int, batch_size: int, num_epochs: int) -> Built:
    """One rollout and its update."""
    config = algorithm.Config(num_envs=num_envs, num_steps=num_steps, batch_size=batch_size, num_epochs=num_epochs)
    loop = algorithm.make(envs.make_vector(environment, num_envs), config)
    state = loop.init(0)

    def call() -> None:
        nonlocal state
        state, _ = loop.step(state)

    return Built(call, [0.0])

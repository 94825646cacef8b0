"""PPO of rejax, on gymnax's Pendulum."""

from __future__ import annotations

from typing import Any

import jax
import rejax

from benchmarks.contenders import compiled_training
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built

__all__ = ["compiled", "compiling", "hardware"]


def compiled(device: str, **case: int) -> Built:
    """Rollouts and updates of PPO on Pendulum in one compiled program."""
    return compiled_training.running(lambda: _programs(**case))


def compiling(device: str, **case: int) -> Built:
    """Compilation of the program of `compiled` and of the program of `init`."""
    return compiled_training.compiling(lambda: _programs(**case))


def _programs(num_envs: int, num_steps: int, num_minibatches: int, num_epochs: int, updates: int) -> tuple[Any, Any]:
    algorithm = rejax.PPO.create(
        env="Pendulum-v1",
        num_envs=num_envs,
        num_steps=num_steps,
        num_minibatches=num_minibatches,
        num_epochs=num_epochs,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
    )

    def train(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (algorithm.train_iteration(s), None), state, None, length=updates)

    return algorithm.init_state, train

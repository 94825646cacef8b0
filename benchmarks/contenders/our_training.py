"""Training with gaussjax."""

from __future__ import annotations

from typing import Any

import jax

from benchmarks.contenders import compiled_training
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built
from gaussjax import envs
from gaussjax.training import ppo as ppo_algorithm
from gaussjax.training import sac as sac_algorithm

__all__ = ["compiled", "compiling", "hardware", "ppo", "sac"]


def ppo(device: str, environment: str, num_envs: int, num_steps: int, batch_size: int, num_epochs: int) -> Built:
    """One rollout and its update."""
    config = ppo_algorithm.Config(num_envs=num_envs, num_steps=num_steps, batch_size=batch_size, num_epochs=num_epochs)
    return _stepping(ppo_algorithm.make(envs.make_vector(environment, num_envs), config))


def sac(device: str, environment: str, num_steps: int, batch_size: int, learning_starts: int) -> Built:
    """Steps of one environment, each with its gradient step."""
    config = sac_algorithm.Config(num_steps=num_steps, batch_size=batch_size, learning_starts=learning_starts)
    built = _stepping(sac_algorithm.make(envs.make_vector(environment, 1), config))
    # Skip the random steps; the first gradient step is in the call after them.
    for _ in range(-(-learning_starts // num_steps)):
        built.call()
    return built


def _stepping(algorithm: Any) -> Built:
    state = algorithm.init(jax.random.key(0))

    def call() -> None:
        nonlocal state
        state, _ = algorithm.step(state)

    return Built(call, [0.0])


def compiled(device: str, **case: int) -> Built:
    """Rollouts and updates of PPO on Pendulum in one compiled program."""
    return compiled_training.running(lambda: _programs(**case))


def compiling(device: str, **case: int) -> Built:
    """Compilation of the program of `compiled` and of the program of `init`."""
    return compiled_training.compiling(lambda: _programs(**case))


def _programs(num_envs: int, num_steps: int, num_minibatches: int, num_epochs: int, updates: int) -> tuple[Any, Any]:
    from gymnasium.envs.phys2d.pendulum import PendulumFunctional

    config = ppo_algorithm.Config(
        num_envs=num_envs,
        num_steps=num_steps,
        batch_size=num_envs * num_steps // num_minibatches,
        num_epochs=num_epochs,
        normalize_observations=False,
        normalize_rewards=False,
    )
    algorithm = ppo_algorithm.make(envs.from_functional(PendulumFunctional(), max_steps=200), config)
    # Keep the metrics, as a real training does; rejax has none.
    return algorithm.init, lambda state: jax.lax.scan(lambda s, _: algorithm.step(s), state, None, length=updates)

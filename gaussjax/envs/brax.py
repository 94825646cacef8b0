"""Environments of brax and mujoco_playground."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.envs.environment import Environment, Step, at_limit


def from_brax(environment: Any, max_steps: int | None = None) -> Environment:
    """An environment of brax or of mujoco_playground, without its own wrappers.

    Args:
        environment: An object with `observation_size`, `action_size`, `reset(key)` and `step(state, action)`.
            States have `obs`, `reward` and `done`; actions are in [-1, 1].
        max_steps: Steps after which an episode is truncated, or None.

    Returns:
        Two pure functions and the spaces.

    Example:
        >>> import jax
        >>> from collections import namedtuple
        >>> State = namedtuple("State", "obs reward done")
        >>> class Line:  # An environment of brax has these four.
        ...     observation_size, action_size = 1, 1
        ...     def reset(self, key):
        ...         return State(jnp.zeros(1), jnp.zeros(()), jnp.zeros(()))
        ...     def step(self, state, action):
        ...         return State(state.obs + action, -jnp.abs(state.obs[0]), jnp.zeros(()))
        >>> environment = from_brax(Line(), max_steps=1)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).truncated)
        True
    """

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        state = environment.reset(key)
        return (state, jnp.zeros((), jnp.int32)), state.obs

    def step(state: Any, action: Array) -> Step:
        state, steps = state
        state = environment.step(state, action)
        terminated = state.done.astype(bool)
        truncated = at_limit(terminated, steps + 1, max_steps)
        return Step((state, steps + 1), state.obs, state.reward, terminated, truncated)

    return Environment(
        reset, step, spaces.as_space(environment.observation_size), spaces.Box(-1.0, 1.0, (environment.action_size,))
    )

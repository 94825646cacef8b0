"""Adapter for environments of brax and mujoco_playground."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.envs.environment import Environment, Step, at_limit


def from_brax(environment: Any, max_steps: int | None = None) -> Environment:
    """Converts an environment of brax or mujoco_playground to an `Environment`.

    Args:
        environment: Object with `observation_size`, `action_size`, `reset(key)` and `step(state, action)`, without
            wrappers. States have `obs`, `reward` and `done`; actions are in [-1, 1].
        max_steps: Number of steps after which an episode is truncated, or None.

    Returns:
        The environment as two pure functions and two spaces.

    Example:
        >>> import jax
        >>> from types import SimpleNamespace as Namespace
        >>> state_at = lambda x: Namespace(obs=x, reward=-jnp.abs(x[0]), done=jnp.zeros(()))
        >>> reset, step = lambda key: state_at(jnp.zeros(1)), lambda state, action: state_at(state.obs + action)
        >>> line = Namespace(observation_size=1, action_size=1, reset=reset, step=step)
        >>> environment = from_brax(line, max_steps=1)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).truncated)
        True
    """

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        state = environment.reset(key)
        return (state, jnp.zeros((), jnp.int32)), state.obs

    def step(state: Any, action: Array) -> Step:
        state, steps = environment.step(state[0], action), state[1] + 1
        terminated = state.done.astype(bool)
        return Step((state, steps), state.obs, state.reward, terminated, at_limit(terminated, steps, max_steps))

    action_space = spaces.Box(-1.0, 1.0, (environment.action_size,))
    return Environment(reset, step, spaces.as_space(environment.observation_size), action_space)

"""Adapter for environments of gymnax."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.envs.environment import Environment, Step
from gaussjax.random import keys


def from_gymnax(environment: Any, parameters: Any) -> Environment:
    """Converts an environment of gymnax to an `Environment`.

    gymnax reports termination and truncation as one flag, so every end of an episode counts as a termination.

    Args:
        environment: Object with `reset_env(key, parameters) -> (observation, state)` and
            `step_env(key, state, action, parameters) -> (observation, state, reward, done, info)`.
        parameters: Parameters of the environment.

    Returns:
        The environment as two pure functions and two spaces.

    Example:
        >>> import jax
        >>> class Line:  # Every environment of gymnax has these four methods.
        ...     observation_space = action_space = lambda self, parameters: spaces.Box(-1.0, 1.0, (1,))
        ...     reset_env = lambda self, key, parameters: (jnp.zeros(1), jnp.zeros(1))
        ...     def step_env(self, key, state, action, parameters):
        ...         return state + action, state + action, jnp.zeros(()), jnp.ones(()), {}
        >>> environment = from_gymnax(Line(), None)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).terminated)
        True
    """

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        reset_key, key = keys.split(key)
        observation, state = environment.reset_env(reset_key, parameters)
        return (state, key), observation

    def step(state: Any, action: Array) -> Step:
        state, key = state
        key, step_key = keys.split(key)
        observation, state, reward, done, _ = environment.step_env(step_key, state, action, parameters)
        return Step((state, key), observation, reward, done.astype(bool), jnp.asarray(False))

    both = (environment.observation_space(parameters), environment.action_space(parameters))
    return Environment(reset, step, *map(spaces.as_space, both))

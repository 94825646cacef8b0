"""Adapter for environments of Gymnasium's functional interface."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.envs.environment import Environment, Step, at_limit
from gaussjax.random import keys


def from_functional(functional: Any, max_steps: int | None = None) -> Environment:
    """Converts an environment of Gymnasium's functional interface to an `Environment`.

    Args:
        functional: A `gymnasium.experimental.functional.FuncEnv`.
        max_steps: Number of steps after which an episode is truncated, or None.

    Returns:
        The environment as two pure functions and two spaces.

    Example:
        >>> import jax
        >>> from gymnasium.envs.phys2d.pendulum import PendulumFunctional
        >>> environment = from_functional(PendulumFunctional(), max_steps=200)
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> environment.step(state, jax.numpy.zeros(1)).observation.shape
        (3,)
    """

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        reset_key, key, observation_key = keys.split(key, 3)
        state = functional.initial(reset_key)
        return (state, key, jnp.zeros((), jnp.int32)), functional.observation(state, observation_key)

    def step(state: Any, action: Array) -> Step:
        state, key, steps = state
        # The keys of a step are derived from the episode's key, so XLA removes them if the environment does not
        # use them. XLA could not remove a key that each step splits and carries.
        transition_key, observation_key = keys.split(keys.fold_in(key, steps))
        next_state = functional.transition(state, action, transition_key)
        reward = jnp.asarray(functional.reward(state, action, next_state, observation_key), jnp.float32).reshape(())
        terminated = jnp.asarray(functional.terminal(next_state, observation_key), bool).reshape(())
        truncated = at_limit(terminated, steps + 1, max_steps)
        observation = functional.observation(next_state, observation_key)
        return Step((next_state, key, steps + 1), observation, reward, terminated, truncated)

    observation_space, action_space = map(spaces.as_space, (functional.observation_space, functional.action_space))
    return Environment(reset, step, observation_space, action_space)

"""Adapter for environments of gymnax."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.envs.environment import Environment, Step, at_limit, imported
from gaussjax.random import keys


def from_gymnax(environment: Any, parameters: Any = None, max_steps: int | None = None) -> Environment:
    """Converts an environment of gymnax to an `Environment`.

    An episode that ends at the time limit in the parameters is truncated, not terminated. gymnax 1.0 reports this
    itself. Earlier versions report both ends as one flag; a step then counts as terminated if it would also end
    the episode without the limit.

    Args:
        environment: Object with `reset_env(key, parameters) -> (observation, state)` and
            `step_env(key, state, action, parameters) -> (observation, state, reward, done, info)`.
        parameters: Parameters of the environment; None takes `environment.default_params`.
        max_steps: Number of steps after which an episode is truncated, in place of `max_steps_in_episode` in the
            parameters; None keeps that limit.

    Returns:
        The environment as two pure functions and two spaces.

    Example:
        >>> import jax
        >>> class Line:  # Every environment of gymnax has these methods.
        ...     observation_space = action_space = lambda self, parameters: spaces.Box(-1.0, 1.0, (1,))
        ...     reset_env = lambda self, key, parameters: (jnp.zeros(1), jnp.zeros(1))
        ...     is_truncated = lambda self, state, parameters: jnp.asarray(False)
        ...     def step_env(self, key, state, action, parameters):
        ...         return state + action, state + action, jnp.zeros(()), jnp.ones(()), {}
        >>> environment = from_gymnax(Line(), {})
        >>> state, observation = environment.reset(jax.random.key(0))
        >>> bool(environment.step(state, jnp.ones(1)).terminated)
        True
    """
    parameters = environment.default_params if parameters is None else parameters
    limited = hasattr(parameters, "max_steps_in_episode")
    if limited and max_steps is not None:
        parameters = parameters.replace(max_steps_in_episode=max_steps)

    def ends(state: Any, done: Array) -> tuple[Array, Array]:
        done = jnp.asarray(done).astype(bool)
        if hasattr(environment, "is_truncated"):
            truncated = jnp.asarray(environment.is_truncated(state, parameters)).astype(bool)
            return done, ~done & truncated
        if not limited or not hasattr(environment, "is_terminal"):
            return done, jnp.zeros((), bool)
        unlimited = parameters.replace(max_steps_in_episode=jnp.iinfo(jnp.int32).max)
        natural = jnp.asarray(environment.is_terminal(state, unlimited)).astype(bool)
        return done & natural, done & ~natural

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        reset_key, key = keys.split(key)
        observation, state = environment.reset_env(reset_key, parameters)
        return (state, key, jnp.zeros((), jnp.int32)), observation

    def step(state: Any, action: Array) -> Step:
        state, key, steps = state
        key, step_key = keys.split(key)
        observation, state, reward, done, _ = environment.step_env(step_key, state, action, parameters)
        terminated, truncated = ends(state, done)
        late = at_limit(terminated, steps + 1, None if limited else max_steps)
        return Step((state, key, steps + 1), observation, reward, terminated, truncated | late)

    both = environment.observation_space(parameters), environment.action_space(parameters)
    observation_space, action_space = map(spaces.as_space, both)
    return Environment(reset, step, observation_space, action_space)


def load_gymnax(name: str, max_steps: int | None = None, **options: Any) -> Environment:
    """Makes an environment of gymnax by its name, with its own time limit unless `max_steps` is given."""
    package = imported("gymnax", "gymnax")
    known = {key: key for key in package.registered_envs}
    environment, parameters = package.make(choose(known, name, "environment of gymnax"), **options)
    return from_gymnax(environment, parameters, max_steps)

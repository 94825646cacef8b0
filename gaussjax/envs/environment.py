"""Protocol of environments that are pure JAX functions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Step(NamedTuple):
    """Result of one step of a JAX environment.

    Attributes:
        state: State after the step, any pytree.
        observation: Observation after the step and before any reset.
        reward: Reward of the step.
        terminated: True if the episode ended in a terminal state, whose value is zero.
        truncated: True if the episode was cut off, for example by a time limit.
    """

    state: Any
    observation: Float[Array, " features"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class ResetFunction(Protocol):
    """Function from a key, which is consumed, to the state and the observation at the start of an episode."""

    def __call__(self, key: Key[Array, ""], /) -> tuple[Any, Array]: ...


class StepFunction(Protocol):
    """Function that applies an action in a state."""

    def __call__(self, state: Any, action: Array, /) -> Step: ...


class Environment(NamedTuple):
    """A single environment as two pure functions. Training loops vmap them and reset finished episodes.

    Attributes:
        reset: `(key) -> (state, observation)`. The key is consumed.
        step: `(state, action) -> Step`. A random environment keeps a key in its state.
        observation_space: Space of observations, of Gymnasium or `gaussjax.spaces`.
        action_space: Box of actions, of Gymnasium or `gaussjax.spaces`.
    """

    reset: ResetFunction
    step: StepFunction
    observation_space: Any
    action_space: Any


def at_limit(terminated: Bool[Array, ""], steps: Int[Array, ""], max_steps: int | None) -> Bool[Array, ""]:
    """True if the time limit truncates an episode after `steps` steps."""
    return jnp.asarray(False) if max_steps is None else ~terminated & (steps >= max_steps)

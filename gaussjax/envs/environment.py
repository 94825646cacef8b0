"""Record of an environment as pure JAX functions, and the types of its functions."""

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
    """The environment's reset function, `(key) -> (state, observation)` at the start of an episode."""

    def __call__(self, key: Key[Array, ""], /) -> tuple[Any, Array]: ...


class StepFunction(Protocol):
    """The environment's step function, `(state, action) -> Step`."""

    def __call__(self, state: Any, action: Array, /) -> Step: ...


class Environment(NamedTuple):
    """A single environment as two pure functions. Training loops vmap the functions and reset finished episodes.

    Attributes:
        reset: `(key) -> (state, observation)`. The key is consumed.
        step: `(state, action) -> Step`. An environment with random steps keeps a key in its state.
        observation_space: Space of observations, of Gymnasium or `gaussjax.spaces`.
        action_space: Box of actions, of Gymnasium or `gaussjax.spaces`.
    """

    reset: ResetFunction
    step: StepFunction
    observation_space: Any
    action_space: Any


def at_limit(terminated: Bool[Array, ""], steps: Int[Array, ""], max_steps: int | None) -> Bool[Array, ""]:
    """Returns True if an episode that has not terminated reaches its time limit after `steps` steps."""
    return jnp.asarray(False) if max_steps is None else ~terminated & (steps >= max_steps)

"""Protocol of environments that are pure JAX functions."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


class Step(NamedTuple):
    """Result of one step of a JAX environment.

    Attributes:
        state: State to step from next, any pytree.
        observation: Observation after the step. At the end of an episode it is the last one, before the reset.
        reward: Reward of the step.
        terminated: True if the episode ended by itself: the value of what follows is zero.
        truncated: True if the episode was cut, for example by a time limit.
    """

    state: Any
    observation: Float[Array, " features"]
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]


class ResetFunction(Protocol):
    """Function that starts an episode."""

    def __call__(self, key: Key[Array, ""], /) -> tuple[Any, Array]:
        """State and observation; the key is consumed."""
        ...


class StepFunction(Protocol):
    """Function that steps an episode."""

    def __call__(self, state: Any, action: Array, /) -> Step:
        """Result of the action in the state."""
        ...


class Environment(NamedTuple):
    """One environment as two pure functions. Loops vmap it; it does not reset itself.

    Attributes:
        reset: `(key) -> (state, observation)`. The key is consumed.
        step: `(state, action) -> Step`. A random environment keeps a key in its state.
        observation_space: Space of observations, from Gymnasium or `gaussjax.spaces`.
        action_space: Box of actions, from Gymnasium or `gaussjax.spaces`.
    """

    reset: ResetFunction
    step: StepFunction
    observation_space: Any
    action_space: Any


def at_limit(terminated: Bool[Array, ""], steps: Int[Array, ""], max_steps: int | None) -> Bool[Array, ""]:
    """Whether the time limit truncates an episode after `steps` steps."""
    return jnp.asarray(False) if max_steps is None else ~terminated & (steps >= max_steps)

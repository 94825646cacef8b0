"""The recurrence h[t] = a[t] * h[t-1] + b[t] over a whole sequence.

A cell whose gates depend on its input alone is such a recurrence. All its products are done for all
steps at once, and on parallel hardware a sequence of T steps takes O(log T) dependent operations
where an LSTM takes T.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


@jax.custom_vjp
def linear_recurrence(
    decay: Float[Array, " time *shape"], inputs: Float[Array, " time *shape"], initial: Float[Array, " *shape"]
) -> Float[Array, " time *shape"]:
    """All states of `h[t] = decay[t] * h[t-1] + inputs[t]`, elementwise, with `h[-1] = initial`.

    A decay of 0 forgets everything before that step, which is how an episode starts.

    Args:
        decay: Factors; within [-1, 1] for a stable recurrence.
        inputs: What is added at each step.
        initial: The state before the first step.

    Returns:
        The states after each step.

    Example:
        >>> linear_recurrence(jnp.array([0.5, 0.0, 0.5]), jnp.ones(3), jnp.array(4.0)).tolist()
        [3.0, 1.0, 1.5]

    Source:
        Blelloch 1990, prefix sums and their applications, section 1.4.
    """
    return differentiable_recurrence(decay, inputs, initial)


def differentiable_recurrence(decay: Array, inputs: Array, initial: Array) -> Array:
    """`linear_recurrence` for automatic differentiation: slower backwards, and what forward mode needs."""
    first = inputs[:1] + decay[:1] * initial[None]
    return _solve(decay, jnp.concatenate([first, inputs[1:]]), reverse=False)


def _solve(decay: Array, inputs: Array, reverse: bool) -> Array:
    """The states from a zero start, by the way that is faster on the platform the program is made for."""
    ways = {"cpu": functools.partial(sequential, reverse=reverse)}
    return jax.lax.platform_dependent(decay, inputs, **ways, default=functools.partial(parallel, reverse=reverse))


def parallel(decay: Array, inputs: Array, reverse: bool = False) -> Array:
    """By an associative scan: O(log T) dependent operations, and more passes over the memory."""
    return jax.lax.associative_scan(_compose, (decay, inputs), reverse=reverse)[1]


def sequential(decay: Array, inputs: Array, reverse: bool = False) -> Array:
    """By a loop of elementwise steps: the least work, which is what counts on few cores."""

    def step(state: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        state = both[0] * state + both[1]
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(inputs[0]), (decay, inputs), reverse=reverse)[1]


def _compose(early: Any, late: Any) -> Any:
    return early[0] * late[0], late[0] * early[1] + late[1]


def _forward(decay: Array, inputs: Array, initial: Array) -> Any:
    states = linear_recurrence(decay, inputs, initial)
    return states, (decay, initial, states)


def _backward(saved: Any, d_states: Array) -> Any:
    decay, initial, states = saved
    # The gradient obeys the same recurrence backwards in time, with the decay of the step after.
    later = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    d_inputs = _solve(later, d_states, reverse=True)
    before = jnp.concatenate([initial[None], states[:-1]])
    return d_inputs * before, d_inputs, decay[0] * d_inputs[0]


linear_recurrence.defvjp(_forward, _backward)

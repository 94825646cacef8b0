"""The recurrence h[t] = a[t] * h[t-1] + b[t], computed for all steps in parallel.

A cell whose gates depend on its input alone is such a recurrence, so that a sequence of T steps
takes O(log T) dependent operations where an LSTM takes T.
"""

from __future__ import annotations

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
    first = inputs[:1] + decay[:1] * initial[None]
    inputs = jnp.concatenate([first, inputs[1:]])
    return jax.lax.associative_scan(_compose, (decay, inputs))[1]


def _compose(early: Any, late: Any) -> Any:
    return early[0] * late[0], late[0] * early[1] + late[1]


def _forward(decay: Array, inputs: Array, initial: Array) -> Any:
    states = linear_recurrence(decay, inputs, initial)
    return states, (decay, initial, states)


def _backward(saved: Any, d_states: Array) -> Any:
    decay, initial, states = saved
    # The gradient obeys the same recurrence backwards in time, with the decay of the step after.
    later = jnp.concatenate([decay[1:], jnp.zeros_like(decay[:1])])
    d_inputs = jax.lax.associative_scan(_compose, (later, d_states), reverse=True)[1]
    before = jnp.concatenate([initial[None], states[:-1]])
    return d_inputs * before, d_inputs, decay[0] * d_inputs[0]


linear_recurrence.defvjp(_forward, _backward)

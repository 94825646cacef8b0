"""The recurrence h[t] = a[t] * h[t-1] + b[t] over a whole sequence.

A cell whose gates depend on its input alone is such a recurrence. On parallel hardware a sequence of T steps
takes O(log T) dependent operations where an LSTM takes T.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def linear_recurrence(
    decay: Float[Array, " time *shape"], inputs: Float[Array, " time *shape"], initial: Float[Array, " *shape"]
) -> Float[Array, " time *shape"]:
    """All states of `h[t] = decay[t] * h[t-1] + inputs[t]`, elementwise, with `h[-1] = initial`.

    A decay of 0 forgets everything before that step, which is how an episode starts.

    Args:
        decay: Factors; within [-1, 1] for a stable recurrence.
        inputs: Summands of each step.
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
    # The way that is faster on the platform of the compiled program.
    return jax.lax.platform_dependent(decay, inputs, cpu=sequential, default=parallel)


def parallel(decay: Array, inputs: Array) -> Array:
    """By an associative scan: O(log T) dependent operations, and more memory traffic."""
    return jax.lax.associative_scan(_compose, (decay, inputs))[1]


def sequential(decay: Array, inputs: Array) -> Array:
    """By a loop of elementwise steps: the least work, which is faster on few cores."""

    def step(state: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        state = both[0] * state + both[1]
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(inputs[0]), (decay, inputs))[1]


def _compose(early: Any, late: Any) -> Any:
    return early[0] * late[0], late[0] * early[1] + late[1]

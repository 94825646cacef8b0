"""The recurrence h[t] = a[t] * h[t-1] + b[t] over a sequence, computed in parallel except on a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def linear_recurrence(
    decay: Float[Array, " time *shape"], inputs: Float[Array, " time *shape"], initial: Float[Array, " *shape"]
) -> Float[Array, " time *shape"]:
    """Computes all states `h[t] = decay[t] * h[t-1] + inputs[t]`, elementwise, from `h[-1] = initial`.

    A decay of 0 removes the influence of earlier steps, as the first step of an episode needs.

    Source:
        Blelloch 1990, prefix sums and their applications, section 1.4.
    """
    first = inputs[:1] + decay[:1] * initial[None]
    inputs = jnp.concatenate([first, inputs[1:]])
    # On the few cores of a CPU the parallel scan is slower than the loop.
    return jax.lax.platform_dependent(decay, inputs, cpu=sequential, default=parallel)


def parallel(decay: Array, inputs: Array) -> Array:
    """Computes the states by an associative scan, with O(log T) dependent operations but more memory traffic."""

    def compose(early: Any, late: Any) -> Any:
        return early[0] * late[0], late[0] * early[1] + late[1]

    return jax.lax.associative_scan(compose, (decay, inputs))[1]


def sequential(decay: Array, inputs: Array) -> Array:
    """Computes the states by a loop over the steps, with T dependent operations but the least work."""

    def step(state: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        state = both[0] * state + both[1]
        return state, state

    return jax.lax.scan(step, jnp.zeros_like(inputs[0]), (decay, inputs))[1]

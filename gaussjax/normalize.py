"""Running mean and variance of observations, for inputs of order one.

`init`, `update` and `apply` are pure; the statistics are carried by the training state and
saved beside the parameters. The merge of a batch is the parallel form, which does not cancel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float


class Statistics(NamedTuple):
    """What has been seen so far.

    Attributes:
        count: Number of observations, as a float32 scalar.
        mean: Their mean, of the shape of one observation.
        m2: Sum of the squared deviations from the mean, same shape.
    """

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    m2: Float[Array, "*shape"]


def init(shape: tuple[int, ...]) -> Statistics:
    """Statistics of nothing: `apply` returns its input until the first update.

    Example:
        >>> init((3,)).mean
        Array([0., 0., 0.], dtype=float32)
    """
    return Statistics(jnp.zeros((), jnp.float32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def update(state: Statistics, batch: Float[Array, "*batch shape"]) -> Statistics:
    """Statistics with a batch added.

    Args:
        state: What was seen before.
        batch: Observations with any leading dimensions.

    Returns:
        What has been seen with them.

    Raises:
        ValueError: The last axes are not those of the statistics.

    Source:
        Chan, Golub and LeVeque 1979, updating formulae for a pairwise algorithm.
    """
    _check_shape(state, batch)
    batch = jnp.asarray(batch, jnp.float32).reshape(-1, *state.mean.shape)
    count = jnp.asarray(batch.shape[0], jnp.float32)
    mean = jnp.mean(batch, axis=0)
    m2 = jnp.sum(jnp.square(batch - jnp.expand_dims(mean, 0)), axis=0)
    total = state.count + count
    delta = mean - state.mean
    share = count / jnp.maximum(total, 1.0)
    return Statistics(
        total,
        state.mean + delta * share,
        state.m2 + m2 + jnp.square(delta) * (state.count * share),
    )


def variance(state: Statistics) -> Float[Array, "*shape"]:
    """Variance of what has been seen, one while nothing has."""
    return jnp.where(state.count > 0, state.m2 / jnp.maximum(state.count, 1.0), 1.0)


def apply(
    state: Statistics, x: Float[Array, "*batch shape"], clip: float = 10.0, epsilon: float = 1e-8
) -> Float[Array, "*batch shape"]:
    """Observations with mean zero and variance one.

    Args:
        state: Statistics; held constant, no gradient flows into them.
        x: Observations with any leading dimensions.
        clip: Bound on the result, in standard deviations.
        epsilon: Added to the variance, so that a constant dimension gives zero.

    Returns:
        `(x - mean) / sqrt(variance + epsilon)`, clipped.

    Raises:
        ValueError: The last axes are not those of the statistics.
    """
    _check_shape(state, x)
    state = jax.lax.stop_gradient(state)
    x = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    mean = jnp.broadcast_to(state.mean, x.shape)
    scale = jnp.broadcast_to(jax.lax.rsqrt(variance(state) + epsilon), x.shape)
    return jnp.clip((x - mean) * scale, -clip, clip)


def _check_shape(state: Statistics, x: Array) -> None:
    shape = state.mean.shape
    if jnp.shape(x)[jnp.ndim(x) - len(shape) :] != shape:
        expected = ", ".join(["...", *map(str, shape)])
        raise ValueError(f"x: expected ({expected}) for these statistics, got {jnp.shape(x)}.")

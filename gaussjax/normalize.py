"""Normalisation of observations by their running mean and variance."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussjax.core.arrays import is_other, xp

MAKE_STATISTICS = "Make them with normalize.init, or with gaussjax.interop.skrl.statistics from a checkpoint of skrl."


class Statistics(NamedTuple):
    """Running statistics of observations: count, mean and squared deviations.

    Attributes:
        count: Number of observations, a float32 scalar.
        mean: Mean, with the shape of one observation.
        m2: Sum of squared deviations from the mean, with the shape of one observation.
    """

    count: Float[Array, ""]
    mean: Float[Array, "*shape"]
    m2: Float[Array, "*shape"]


def init(shape: tuple[int, ...]) -> Statistics:
    """Statistics before the first observation, with which `apply` only clips its input.

    Args:
        shape: Shape of one observation.

    Returns:
        Statistics whose count, mean and squared deviations are zero.

    Example:
        >>> init((3,)).mean
        Array([0., 0., 0.], dtype=float32)
    """
    return Statistics(jnp.zeros((), jnp.float32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def update(state: Statistics, batch: Float[Array, "*batch shape"]) -> Statistics:
    """Updates statistics with a batch of observations.

    Args:
        state: Statistics of the observations so far.
        batch: Observations with any leading axes, `(…, *shape)`.

    Returns:
        Statistics of all observations. With one observation in each update the count stops at 2**24, because
        float32 cannot represent the next integer.

    Raises:
        ValueError: The last axes do not have the shape of one observation.

    Example:
        >>> update(init((1,)), jnp.array([[1.0], [3.0]]))
        Statistics(count=Array(2., dtype=float32), mean=Array([2.], dtype=float32), m2=Array([2.], dtype=float32))

    Source:
        Chan, Golub and LeVeque 1979, updating formulae for a pairwise algorithm.
    """
    batch = jnp.asarray(batch, jnp.float32)
    _refuse_other_shape(batch, state.mean.shape, "batch")
    batch = batch.reshape(math.prod(batch.shape[: batch.ndim - state.mean.ndim]), *state.mean.shape)
    if batch.shape[0] == 0:
        return state
    # Sums differences from the first observation, because sums of observations far from zero lose digits.
    anchor = batch[0]
    difference = batch - jnp.expand_dims(anchor, 0)
    mean = jnp.mean(difference, axis=0)
    m2 = jnp.sum(jnp.square(difference - jnp.expand_dims(mean, 0)), axis=0)
    count = jnp.asarray(batch.shape[0], jnp.float32)
    total = state.count + count
    delta = (anchor - state.mean) + mean
    share = count / total
    m2 = state.m2 + m2 + jnp.square(delta) * (state.count * share)
    return Statistics(total, state.mean + delta * share, m2)


def variance(state: Statistics) -> Float[Array, "*shape"]:
    """Variance of the observations; 1 before the first update.

    Args:
        state: Statistics of the observations so far.

    Returns:
        Variance in squared units of the observation, with the shape of one observation.

    Example:
        >>> variance(update(init((1,)), jnp.array([[1.0], [3.0]])))
        Array([1.], dtype=float32)
    """
    return xp.where(state.count > 0, state.m2 / xp.maximum(state.count, 1.0), 1.0)


def apply(
    state: Statistics, x: Float[Array, "*batch shape"], clip: float = 10.0, epsilon: float = 1e-8
) -> Float[Array, "*batch shape"]:
    """Normalises observations to mean zero and variance one.

    Args:
        state: Statistics of earlier observations; no gradient flows into them.
        x: Observations with any leading axes, `(…, *shape)`.
        clip: Bound on the absolute value of the result, in standard deviations.
        epsilon: Added to the variance, so that a constant dimension gives zero.

    Returns:
        `(x - mean) / sqrt(variance + epsilon)`, clipped, float32 at the least.

    Raises:
        ValueError: The last axes do not have the shape of one observation.
        TypeError: `state` is not a `Statistics`.

    Example:
        >>> apply(update(init((1,)), jnp.array([[1.0], [3.0]])), jnp.array([4.0]))
        Array([2.], dtype=float32)
    """
    if not isinstance(state, Statistics):
        raise TypeError(f"state: expected Statistics, got {type(state).__name__}. {MAKE_STATISTICS}")
    state = Statistics(*(xp.stop_gradient(part) for part in state))
    if is_other(state.mean):
        # Converts lists and NumPy arrays to the array library of the statistics, such as torch.
        x = xp.at_least_float32(state.mean, x)[1]
    else:
        x = xp.at_least_float32(*((x,) if hasattr(x, "dtype") else (jnp.asarray(x),)))[0]
    _refuse_other_shape(x, state.mean.shape, "x")
    mean = xp.broadcast_to(state.mean, x.shape)
    scale = xp.broadcast_to(xp.rsqrt(variance(state) + epsilon), x.shape)
    return xp.clip((x - mean) * scale, -clip, clip)


def _refuse_other_shape(array: Array, shape: tuple[int, ...], name: str) -> None:
    if array.ndim < len(shape) or tuple(array.shape[array.ndim - len(shape) :]) != tuple(shape):
        expected = ", ".join(["...", *map(str, shape)])
        raise ValueError(
            f"{name}: expected ({expected}), got {tuple(array.shape)}. The last axes are one observation of "
            f"these statistics, made by normalize.init({tuple(shape)})."
        )

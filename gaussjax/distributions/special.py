"""Scalar formulas that keep their digits where the textbook forms lose them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Array, Float

from gaussjax.core.arrays import elementwise, xp

Reduction = Literal["sum", "mean", "prod", "none"]

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

_REDUCTIONS = {"sum": xp.sum, "mean": xp.mean, "prod": xp.prod}
# expm1(x) - x = x²/2! + x³/3! + …; eighteen terms reach float64's last bit for |x| < 1.
_SERIES = [1.0 / math.factorial(n) for n in range(19, 1, -1)]


def check_reduction(reduction: str) -> None:
    """Checks the name of a reduction.

    Raises:
        ValueError: `reduction` is not "sum", "mean", "prod" or "none".
    """
    if reduction not in (*_REDUCTIONS, "none"):
        raise ValueError(f"reduction: expected 'sum', 'mean', 'prod' or 'none', got {reduction!r}.")


def reduce(terms: Float[Array, "*batch act"], reduction: str) -> Array:
    """Terms of the action dimensions, reduced over the last axis.

    Args:
        terms: One term for each dimension, such as a log-density in nats, `(…, act)`.
        reduction: "sum" for the joint log-density of independent dimensions, or "none". "mean" and
            "prod" exist for compatibility; "prod" multiplies *log*-densities.

    Returns:
        `(…)`; for "none" the terms themselves, `(…, act)`.

    Raises:
        ValueError: No reduction has that name.

    Example:
        >>> import jax.numpy as jnp
        >>> reduce(jnp.ones((4, 2)), "sum").shape
        (4,)
    """
    check_reduction(reduction)
    if reduction == "none":
        return terms
    return _REDUCTIONS[reduction](terms, axis=-1)


def chebyshev(coefficients: Sequence[float], x: Array) -> Array:
    """Chebyshev series at x in [-1, 1], by Clenshaw's recurrence.

    Example:
        >>> import jax.numpy as jnp
        >>> float(chebyshev((1.0, 2.0, 3.0), jnp.float32(0.5)))
        0.5
    """
    last = before = xp.zeros_like(x)
    for coefficient in reversed(coefficients[1:]):
        last, before = 2.0 * x * last - before + coefficient, last
    return x * last - before + coefficients[0]


@elementwise(lambda x: (xp.expm1(x),))
def expm1_minus_x(x: Array) -> Array:
    """exp(x) - 1 - x within a few roundoffs; the plain form cancels near 0.

    Example:
        >>> import jax.numpy as jnp
        >>> float(expm1_minus_x(jnp.float32(1e-4)))
        5.000166...e-09
    """
    near = xp.abs(x) < 1.0
    small = xp.where(near, x, 0.0)
    series = xp.zeros_like(small)
    for coefficient in _SERIES:
        series = series * small + coefficient
    return xp.where(near, xp.square(small) * series, xp.expm1(x) - x)


def exact_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """`a - b` rounded, and its rounding error; their sum is exact.

    Source:
        Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """
    difference = a - b
    taken = difference - a
    return difference, (a - (difference - taken)) - (b + taken)


def _divergence_slopes(log_std: Array, other_log_std: Array) -> tuple[Array, Array]:
    gap, rest = _twice_difference(log_std, other_log_std)
    slope = xp.expm1(gap)
    slope = slope * (1.0 + rest) + rest
    return slope, -slope


@elementwise(_divergence_slopes)
def scale_divergence(log_std: Array, other_log_std: Array) -> Array:
    """KL divergence between two normals of the same mean, in nats, element by element.

    It is `(expm1(2d) - 2d) / 2` with d the difference of the logarithms. The result would multiply
    the rounding error of d by 2d, so that error is computed too.

    Example:
        >>> import jax.numpy as jnp
        >>> float(scale_divergence(jnp.float32(1.0), jnp.float32(0.0)))
        2.194528...
    """
    gap, rest = _twice_difference(log_std, other_log_std)
    curve = expm1_minus_x(gap)
    return 0.5 * (curve * (1.0 + rest) + gap * rest)


def _twice_difference(a: Array, b: Array) -> tuple[Array, Array]:
    difference, rest = exact_difference(a, b)
    return 2.0 * difference, 2.0 * rest

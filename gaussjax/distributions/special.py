"""Scalar formulas that stay accurate where textbook formulas lose digits, and reductions over the action axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Array, Float

from gaussjax.core.arrays import elementwise, xp

Reduction = Literal["sum", "mean", "prod", "none"]

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

_REDUCTIONS = {"sum": xp.sum, "mean": xp.mean, "prod": xp.prod}
# Coefficients of exp(x) - 1 - x = x²/2! + x³/3! + …; eighteen terms reach float64's last bit for |x| < 1.
_SERIES = [1.0 / math.factorial(n) for n in range(19, 1, -1)]


def check_reduction(reduction: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduction not in (*_REDUCTIONS, "none"):
        raise ValueError(f"reduction: expected 'sum', 'mean', 'prod' or 'none', got {reduction!r}.")


def reduce(terms: Float[Array, "*batch act"], reduction: str) -> Array:
    """Reduces an array with one term for each action dimension over its last axis.

    Args:
        terms: One term for each dimension, such as a log-density in nats, `(…, act)`.
        reduction: "sum" (the joint log-density of independent dimensions), "none", or for compatibility
            "mean" and "prod"; "prod" multiplies log-densities.

    Returns:
        Array of shape `(…)`; for "none" the terms themselves, `(…, act)`.

    Raises:
        ValueError: No reduction has that name.

    Example:
        >>> import jax.numpy as jnp
        >>> reduce(jnp.ones((4, 2)), "sum").shape
        (4,)
    """
    check_reduction(reduction)
    return terms if reduction == "none" else _REDUCTIONS[reduction](terms, axis=-1)


def chebyshev(coefficients: Sequence[float], x: Array) -> Array:
    """Evaluates a Chebyshev series at x in [-1, 1] by Clenshaw's recurrence."""
    last = before = xp.zeros_like(x)
    for coefficient in reversed(coefficients[1:]):
        last, before = 2.0 * x * last - before + coefficient, last
    return x * last - before + coefficients[0]


@elementwise(lambda x: (xp.expm1(x),))
def expm1_minus_x(x: Array) -> Array:
    """exp(x) - 1 - x, accurate to a few units in the last place even near 0."""
    near = xp.abs(x) < 1.0
    small = xp.where(near, x, 0.0)
    series = xp.zeros_like(small)
    for coefficient in _SERIES:
        series = series * small + coefficient
    return xp.where(near, xp.square(small) * series, xp.expm1(x) - x)


def exact_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """Rounded difference `a - b` and its rounding error, whose sum is exactly `a - b`.

    Source:
        Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """
    difference = a - b
    minus_b = difference - a
    return difference, (a - (difference - minus_b)) - (b + minus_b)


def _divergence_slopes(log_std: Array, other_log_std: Array) -> tuple[Array, Array]:
    gap, rest = _twice_difference(log_std, other_log_std)
    slope = xp.expm1(gap)
    slope = slope * (1.0 + rest) + rest
    return slope, -slope


@elementwise(_divergence_slopes)
def scale_divergence(log_std: Array, other_log_std: Array) -> Array:
    """KL divergence in nats between two normal distributions of equal mean, element by element.

    The divergence is `(expm1(2d) - 2d) / 2` with `d = log_std - other_log_std`. The rounding error of d is
    taken into account, because the formula multiplies it by 2d.
    """
    gap, rest = _twice_difference(log_std, other_log_std)
    return 0.5 * (expm1_minus_x(gap) * (1.0 + rest) + gap * rest)


def _twice_difference(a: Array, b: Array) -> tuple[Array, Array]:
    difference, rest = exact_difference(a, b)
    return 2.0 * difference, 2.0 * rest

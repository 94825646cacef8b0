"""Expectations of tanh(u) and of its log-volume log(1 - tanh(u)²) for normal u, by quadrature.

A narrow normal is integrated with Gauss–Hermite nodes around its mean. For a wide normal these nodes are
too far apart to resolve tanh. So its integrand is split into a part with a closed form (|u| or the sign
of u) and a rest that decays like exp(-2|u|). Gauss–Legendre nodes on both sides of 0 integrate the rest.
The error of either rule is below 1e-8 for every standard deviation, and below 1e-9 for the log-volume.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import elementwise, xp
from gaussjax.distributions.special import tanh_log_det

# From the standard deviation _WIDE on Gauss–Legendre nodes replace Gauss–Hermite nodes. The Gauss–Legendre
# nodes end at |u| = _REACH, where exp(-2|u|) is below float64's last bit.
_WIDE = 0.7
_HERMITE_NODES = 32
_LEGENDRE_NODES = 40
_REACH = 16.0


def _slopes(mean: Array, log_std: Array) -> tuple[Array, Array]:
    # log(1 - tanh(u)²) has the first derivative -2 tanh(u) and the second -2 (1 - tanh(u)²). By Stein's lemma the
    # derivative of its expectation with respect to std is std times the expectation of the second derivative.
    return -2.0 * expected_tanh(mean, log_std), -2.0 * xp.exp(2.0 * log_std) * _expected_slope(mean, log_std)


@elementwise(_slopes)
def expected_log_det(mean: Array, log_std: Array) -> Array:
    """Expectation of log(1 - tanh(u)²) in nats for normal u, element by element."""
    std = xp.exp(log_std)
    narrow = _around_mean(lambda _, u: tanh_log_det(u), mean, std)
    wide = xp.maximum(std, _WIDE)
    rest = _around_zero(lambda u: xp.log1p(xp.exp(-2.0 * u)), mean, wide, 1.0)
    return xp.where(std < _WIDE, narrow, 2.0 * (math.log(2.0) - _expected_abs(mean, wide) - rest))


def expected_tanh(mean: Array, log_std: Array) -> Array:
    """Expectation of tanh(u) for normal u, element by element."""
    std = xp.exp(log_std)
    narrow = _around_mean(lambda _, u: xp.tanh(u), mean, std)
    wide = xp.maximum(std, _WIDE)
    rest = _around_zero(lambda u: 2.0 * xp.sigmoid(-2.0 * u), mean, wide, -1.0)
    return xp.where(std < _WIDE, narrow, xp.erf(mean / (wide * math.sqrt(2.0))) - rest)


def tanh_stddev(mean: Array, log_std: Array) -> Array:
    """Standard deviation of tanh(u) for normal u, element by element."""
    std = xp.exp(log_std)
    # For a narrow normal, `ratio` returns (tanh(u) - tanh(mean)) cosh(mean)² / std. The difference is computed as
    # sinh(u - mean) / (cosh(u) cosh(mean)), which keeps the digits of a small one.
    center = tanh_log_det(mean)

    def ratio(x: Array, u: Array) -> Array:
        step = x * xp.expand_dims(xp.minimum(std, _WIDE), -1)
        small = xp.abs(step) < 1e-2
        safe = xp.where(small, 1.0, step)
        growth = xp.where(small, 1.0 + xp.square(step) / 6.0, xp.sinh(safe) / safe)
        return x * growth * xp.exp(0.5 * (tanh_log_det(u) - xp.expand_dims(center, -1)))

    first = _around_mean(ratio, mean, std)
    second = _around_mean(lambda x, u: xp.square(ratio(x, u)), mean, std)
    narrow = std * xp.exp(center) * xp.sqrt(second - xp.square(first))

    # For a wide normal, (1 - tanh(u)) / 2 = sigmoid(-2u) is split into a step at u = 0 and a decaying rest.
    size, wide = xp.abs(mean), xp.maximum(std, _WIDE)
    beyond = 0.5 * xp.erfc(size / (wide * math.sqrt(2.0)))
    once = beyond + _around_zero(lambda u: xp.sigmoid(-2.0 * u), size, wide, -1.0)
    squared = _around_zero(lambda u: xp.square(xp.sigmoid(-2.0 * u)), size, wide, 1.0)
    twice = beyond + squared - 2.0 * _left_of_zero(lambda u: xp.sigmoid(-2.0 * u), size, wide)
    least = float(xp.finfo(std.dtype).tiny)
    return xp.where(std < _WIDE, narrow, 2.0 * xp.sqrt(xp.maximum(twice - xp.square(once), least)))


def _expected_slope(mean: Array, log_std: Array) -> Array:
    # Expectation of 1 - tanh(u)², the derivative of tanh(u), for normal u.
    std = xp.exp(log_std)
    narrow = _around_mean(lambda _, u: xp.exp(tanh_log_det(u)), mean, std)
    wide = _around_zero(lambda u: xp.exp(tanh_log_det(u)), mean, xp.maximum(std, _WIDE), 1.0)
    return xp.where(std < _WIDE, narrow, wide)


def _around_mean(f: Callable[[Array, Array], Array], mean: Array, std: Array) -> Array:
    # Expectation of f(x, u) for u = mean + std·x with x standard normal, by Gauss–Hermite nodes. A std above
    # _WIDE is clipped; the caller does not use the result for it.
    nodes, weights = _rule(_hermite, mean)
    u = xp.expand_dims(mean, -1) + xp.expand_dims(xp.minimum(std, _WIDE), -1) * nodes
    return xp.sum(weights * f(nodes, u), axis=-1)


def _around_zero(g: Callable[[Array], Array], mean: Array, std: Array, left: float) -> Array:
    # Expectation of w(u)·g(|u|) for normal u, where w is 1 for u > 0 and `left` for u < 0; g decays like exp(-2|u|).
    nodes, weights = _rule(_legendre, mean)
    right, mirrored = _densities(nodes, mean, std)
    return xp.sum(weights * g(nodes) * (right + left * mirrored), axis=-1)


def _left_of_zero(g: Callable[[Array], Array], mean: Array, std: Array) -> Array:
    nodes, weights = _rule(_legendre, mean)
    return xp.sum(weights * g(nodes) * _densities(nodes, mean, std)[1], axis=-1)


def _densities(u: Array, mean: Array, std: Array) -> tuple[Array, Array]:
    mean, scale = xp.expand_dims(mean, -1), xp.expand_dims(1.0 / std, -1)

    def density(u: Array) -> Array:
        return xp.exp(-0.5 * xp.square((u - mean) * scale)) * scale / math.sqrt(2.0 * math.pi)

    return density(u), density(-u)


def _expected_abs(mean: Array, std: Array) -> Array:
    z = mean / std
    return mean * xp.erf(z / math.sqrt(2.0)) + std * math.sqrt(2.0 / math.pi) * xp.exp(-0.5 * xp.square(z))


def _rule(rule: Callable[[], tuple[np.ndarray, np.ndarray]], like: Array) -> tuple[Array, Array]:
    # Nodes and weights of a quadrature rule along a new last axis, so that they broadcast against `like[..., None]`.
    shape = (*(1,) * len(xp.shape(like)), -1)
    return tuple(xp.constant(part.reshape(shape), like) for part in rule())  # type: ignore[return-value]


@functools.cache
def _hermite() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
    return nodes, weights / weights.sum()


@functools.cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(_LEGENDRE_NODES)
    return 0.5 * _REACH * (nodes + 1.0), 0.5 * _REACH * weights

"""The normal distribution on an interval, element by element: its normalizer, moments, quantiles and tails.

The mean may lie far outside of the interval. Distances s are counted in standard deviations from the mode, which is the
point of the interval nearest to the mean. If the mean is above the interval, everything is mirrored. The density is
proportional to exp(-y) with `y = s (slope + s / 2)`, where the slope is the distance from the mean to the mode: 0 for a
mean inside. So no formula subtracts two tails or two squares, and a positive sum stays accurate everywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import elementwise, xp
from gaussjax.distributions.special import HALF_LOG_2PI, expm1_minus_x, mills, mills_fall


def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights on [-1, 1]; the weights of NumPy's `leggauss` have twelve digits only."""
    x = np.polynomial.legendre.leggauss(count)[0].astype(np.longdouble)
    for _ in range(2):
        before, now = np.ones_like(x), x
        for n in range(2, count + 1):
            before, now = now, ((2 * n - 1) * x * now - (n - 1) * before) / n
        slope = count * (before - x * now) / (1 - x * x)
        x = x - now / slope
    return x.astype(np.float64), (2 / ((1 - x * x) * slope * slope)).astype(np.float64)


# By the size of a float in bits: a distance from which on the density is below exp(-distance²/2), the Gauss nodes and
# weights on [-1, 1], and the steps from the first guess of a quantile.
_FAR = {32: (7.5, *_gauss(30)), 64: (9.5, *_gauss(64))}
_STEPS = {32: 1, 64: 2}
# torch.compile cannot trace the first look-up of a name in a backward pass (torch 2.13).
_functions = xp.abs, xp.astype, xp.clip, xp.constant, xp.exp, xp.expm1, xp.log, xp.log1p, xp.maximum, xp.minimum
_functions += xp.sqrt, xp.square, xp.sum, xp.where, xp.zeros_like
# Largest slope and distance, because float32 can represent their squares. The limit has the same results.
_LIMIT = 1e18
# Log-ratios of two densities up to this size leave nothing of the other one beyond the nodes.
_CLOSE = 10.0


class Frame(NamedTuple):
    """An interval as seen from the mode, in standard deviations; `sign` is -1 where it is mirrored."""

    sign: Array
    mode: Array
    scale: Array
    slope: Array
    below: Array
    above: Array

    def distance(self, actions: Array) -> Array:
        """Signed distance s of actions from the mode."""
        return self.sign * (actions - self.mode) * self.scale

    def energy(self, s: Array) -> Array:
        """The exponent y at the distance s."""
        return s * (self.slope + 0.5 * s)


def frame(loc: Array, log_std: Array, low: Array, high: Array) -> Frame:
    """The frame of an interval; its mode is a constant, so that derivatives refer to a fixed point."""
    mode, scale = xp.stop_gradient(xp.clip(loc, low, high)), xp.exp(-log_std)
    sign = xp.astype(xp.where(loc > high, -1.0, 1.0), loc.dtype)
    slope = xp.minimum(sign * (mode - loc) * scale, _LIMIT)
    down, up = xp.stop_gradient((mode - low) * scale), xp.stop_gradient((high - mode) * scale)
    below, above = xp.where(sign < 0, up, down), xp.where(sign < 0, down, up)
    return Frame(sign, mode, scale, slope, xp.minimum(below, _LIMIT), xp.minimum(above, _LIMIT))


def _reach(slope: Array, size: float) -> Array:
    """The distance from which on the density is below exp(-size²/2) times the density at the mode."""
    slope = xp.stop_gradient(slope)
    return size * size / (slope + xp.sqrt(xp.square(slope) + size * size))


def _bits(x: Array) -> int:
    return xp.finfo(x.dtype).bits


def _part(slope: Array, s: Array) -> Array:
    """Integral of exp(-y) from 0 to s, as a share of the integral from 0 on."""
    return _part_and_rest(slope, s, 0.0)[0]


def _part_and_rest(slope: Array, s: Array, shift: Any) -> tuple[Array, Array]:
    """The same share, and the rest of it times exp(shift)."""
    fall, y = mills_fall(slope, s), s * (slope + 0.5 * s)
    return fall - (1.0 - fall) * xp.expm1(-y), (1.0 - fall) * xp.exp(xp.minimum(shift - y, 80.0))


def _normalizer(loc: Array, log_std: Array, low: Array, high: Array) -> Array:
    one = frame(loc, log_std, low, high)
    mass = mills(one.slope) * (_part(one.slope, one.above) + _part(xp.zeros_like(loc), one.below))
    # For a narrow interval the logarithm of its width has more digits than log_std.
    narrow = (high - low) * one.scale < 1.0
    return xp.where(narrow, 0.0, log_std) + xp.log(mass * xp.where(narrow, xp.exp(log_std), 1.0))


class _Moments(NamedTuple):
    """Expectations of s and y, and their covariances."""

    s: Array
    y: Array
    var_s: Array
    cov: Array
    var_y: Array


def _along_first(values: np.ndarray, like: Array) -> Array:
    return xp.constant(values, like).reshape(len(values), *(1,) * like.ndim)


def _ahead(one: Frame) -> Frame:
    """The frame with a new first axis."""
    return Frame(*(x[None] for x in one))


def _nodes(one: Frame) -> tuple[Array, Array, Array]:
    """Distances s, exponents y and probabilities of quadrature nodes, along a new first axis.

    The nodes are fixed actions, so the derivatives of a sum over them are expectations too.
    """
    reach, places, weights = _FAR[_bits(one.slope)]
    lowest, highest = -xp.minimum(one.below, reach), xp.minimum(one.above, _reach(one.slope, reach))
    lowest, size, wide = lowest[None], (highest - lowest)[None], _ahead(one)
    places, weights = _along_first(0.5 + 0.5 * places, one.slope), _along_first(weights, one.slope)
    s = xp.stop_gradient(lowest + size * places) * (wide.scale / xp.stop_gradient(wide.scale))
    y = wide.energy(s)
    mass = weights * xp.exp(-y)
    return s, y, mass / xp.sum(mass, axis=0)[None]


def _moments(one: Frame) -> _Moments:
    s, y, p = _nodes(one)
    mean_s, mean_y = xp.sum(p * s, axis=0), xp.sum(p * y, axis=0)
    s, y = s - mean_s[None], y - mean_y[None]
    return _Moments(mean_s, mean_y, *(xp.sum(p * x, axis=0) for x in (s * s, s * y, y * y)))


def _normalizer_slopes(loc: Array, log_std: Array, low: Array, high: Array) -> tuple[Array, ...]:
    one = frame(loc, log_std, low, high)
    found, zero = _moments(one), xp.zeros_like(loc)
    return one.sign * one.scale * found.s, 2.0 * found.y, zero, zero


@elementwise(_normalizer_slopes)
def log_normalizer(loc: Array, log_std: Array, low: Array, high: Array) -> Array:
    """Logarithm of the integral of exp(-y) over the interval."""
    return _normalizer(loc, log_std, low, high)


def log_mass(loc: Array, log_std: Array, low: Array, high: Array) -> Array:
    """Log-probability in nats of the interval."""
    slope = frame(loc, log_std, low, high).slope
    return log_normalizer(loc, log_std, low, high) - log_std - 0.5 * slope * slope - HALF_LOG_2PI


def log_density(loc: Array, log_std: Array, low: Array, high: Array, actions: Array) -> Array:
    """Log-density in nats of actions on the interval."""
    one = frame(loc, log_std, low, high)
    return -one.energy(one.distance(actions)) - log_normalizer(loc, log_std, low, high)


def _entropy_slopes(loc: Array, log_std: Array, low: Array, high: Array) -> tuple[Array, ...]:
    one = frame(loc, log_std, low, high)
    found, zero = _moments(one), xp.zeros_like(loc)
    return one.sign * one.scale * found.cov, 2.0 * found.var_y, zero, zero


@elementwise(_entropy_slopes)
def entropy(loc: Array, log_std: Array, low: Array, high: Array) -> Array:
    """Differential entropy in nats."""
    return _normalizer(loc, log_std, low, high) + _moments(frame(loc, log_std, low, high)).y


def shift_and_stddev(loc: Array, log_std: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Expectation of `actions - mode`, with a constant mode, and standard deviation, in units of the interval."""
    one = frame(loc, log_std, low, high)
    found, std = _moments(one), xp.exp(log_std)
    return one.sign * std * found.s, std * xp.sqrt(found.var_s)


def divergence(loc: Array, log_std: Array, other: Array, other_log_std: Array, low: Array, high: Array) -> Array:
    """KL divergence in nats between two distributions on one interval."""
    one, far = frame(loc, log_std, low, high), frame(other, other_log_std, low, high)
    s, y, p = _nodes(one)
    # The log-ratio of the densities is `excess` and a constant, which makes its exponential have the expectation 1.
    growth = xp.expm1(2.0 * (log_std - other_log_std))
    shift = (1.0 + growth) * one.sign * (loc - other) * one.scale
    excess = growth[None] * y + shift[None] * s
    mean = xp.sum(p * excess, axis=0)
    ratio = mean[None] - excess
    close = xp.sum(xp.where(xp.abs(ratio) < _CLOSE, 0.0, 1.0), axis=0) == 0.0
    near = xp.log1p(xp.sum(p * expm1_minus_x(xp.where(close[None], ratio, 0.0)), axis=0))
    between = log_normalizer(other, other_log_std, low, high) - log_normalizer(loc, log_std, low, high)
    apart = mean + between + far.energy(far.distance(one.mode))
    # Rounding can make the other form negative. It is 0 then, but keeps its derivatives.
    apart = xp.where(apart < 0.0, apart - xp.stop_gradient(apart), apart)
    return xp.where(close, near, apart)


def _place(one: Frame, noise: Array) -> Array:
    """The distance s whose cumulative probability is that of standard normal noise."""
    noise = one.sign * noise
    size, is_low = xp.abs(noise), noise < 0
    # The tail beyond the noise. It is multiplied by exp(shift) where it would underflow.
    shift = xp.maximum(0.5 * xp.square(size) - 60.0, 0.0)
    tail = mills(size) * xp.exp(shift - 0.5 * xp.square(size) - HALF_LOG_2PI)
    small = xp.where(shift > 0.0, 0.0, tail)
    p, q = xp.where(is_low, small, 1.0 - small), xp.where(is_low, 1.0 - small, small)
    ratio, flat = mills(one.slope), xp.zeros_like(noise)
    above, rest_above = _part_and_rest(one.slope, one.above, shift)
    below, rest_below = _part_and_rest(flat, one.below, shift)
    # The integral of exp(-y) from the mode, as a share of the integral from the mode on, and the rest of it. Each is
    # accurate where the other one loses its digits.
    share = p * above - q * below
    up, share = share >= 0, xp.abs(share)
    slope = xp.where(up, one.slope, 0.0)
    rest = xp.where(up == is_low, 1.0 - small, tail) * (above + below) + xp.where(up, rest_above, rest_below)
    is_near = share < 0.5
    rest = xp.where(is_near, 1.0 - share, rest)
    # The quotient is 1 but for the rounding of `1 - share`.
    hazard = xp.where(is_near, share / xp.where(is_near & (rest < 1.0), 1.0 - rest, 1.0), 1.0)
    hazard = xp.where(rest == 1.0, share, -xp.log(rest) * hazard) + xp.where(is_near, 0.0, shift)
    # The hazard is a convex function of s with the slope 1 / ratio at 0 and a curvature between `bend` and 1. The two
    # constants were fitted; this guess is within 0.5% for all slopes.
    near, far = 1.0 + 1.18934 * xp.sqrt(hazard), 0.40324 * hazard
    bend = ((1.0 - slope * ratio) * near + far * xp.square(ratio)) / (near + far)
    s = 2.0 * hazard * ratio / (1.0 + xp.sqrt(1.0 + 2.0 * bend * hazard))
    for _ in range(_STEPS[_bits(s)]):
        # Halley's step.
        fall = mills_fall(slope, s)
        here, error = ratio * (1.0 - fall), s * (slope + 0.5 * s) - xp.log1p(-fall) - hazard
        s = s - error * here / (1.0 - 0.5 * error * (1.0 - (slope + s) * here))
    return xp.where(up, xp.clip(s, 0.0, one.above), -xp.clip(s, 0.0, one.below))


def _shifts(one: Frame, s: Array) -> tuple[Array, Array]:
    """Minus the derivatives of the cumulative probability at s by loc and by log_std, over the density in units of s.

    Each is an integral of x - E[x] from s to an end of the interval; the end is chosen so that the integrand for loc
    has one sign.
    """
    found = _moments(one)
    is_low = s < found.s
    reach, places, weights = _FAR[_bits(s)]
    size = one.slope + xp.abs(s)
    # In the direction away from the mode the density falls from s on; toward the mode it rises to the mode at most.
    lower = xp.where(s < 0, xp.minimum(one.below, _reach(size, reach) - s), xp.minimum(one.below, reach))
    upper = xp.where(s < 0, xp.minimum(one.above, reach), xp.minimum(one.above, s + _reach(size, reach)))
    end = xp.stop_gradient(xp.where(is_low, -lower, upper)) * (one.scale / xp.stop_gradient(one.scale))
    places, weights = _along_first(0.5 + 0.5 * places, s), _along_first(0.5 * weights, s)
    wide, start, gap = _ahead(one), s[None], (end - s)[None]
    step = gap * places
    mass = weights * gap * xp.exp(-step * (wide.slope + start + 0.5 * step))
    x = start + step
    by_loc = xp.sum(mass * (x - found.s[None]), axis=0)
    by_log_std = 2.0 * xp.sum(mass * (wide.energy(x) - found.y[None]), axis=0)
    return by_loc, by_log_std


def _solved(one: Frame, noise: Array, actions: Array) -> Array:
    """The distance of the actions of noise, with the digits that the actions lose, and with their derivatives."""
    rounded = one.distance(actions)
    return xp.stop_gradient(_place(one, noise)) + (rounded - xp.stop_gradient(rounded))


def _growth(noise: Array, log_normalizer: Array, y: Array) -> Array:
    return xp.exp(y + log_normalizer - (0.5 * xp.square(noise) + HALF_LOG_2PI))


def _quantile_slopes(loc: Array, log_std: Array, low: Array, high: Array, noise: Array) -> tuple[Array, ...]:
    one, zero = frame(loc, log_std, low, high), xp.zeros_like(loc)
    s = _solved(one, noise, quantile(loc, log_std, low, high, noise))
    by_loc, by_log_std = _shifts(one, s)
    by_noise = _growth(noise, log_normalizer(loc, log_std, low, high), one.energy(s))
    return by_loc, one.sign * xp.exp(log_std) * by_log_std, zero, zero, by_noise


@elementwise(_quantile_slopes)
def quantile(loc: Array, log_std: Array, low: Array, high: Array, noise: Array) -> Array:
    """The actions whose cumulative probability is that of standard normal noise; its derivatives are implicit."""
    one = frame(loc, log_std, low, high)
    # Division undoes the rounding of the scale in the distances of the bounds.
    return xp.clip(one.mode + one.sign * _place(one, noise) / one.scale, low, high)


def _score_slopes(loc: Array, log_std: Array, low: Array, high: Array, noise: Array) -> tuple[Array, ...]:
    one, zero = frame(loc, log_std, low, high), xp.zeros_like(loc)
    s = _solved(one, noise, quantile(loc, log_std, low, high, noise))
    (by_loc, by_log_std), found, steepness = _shifts(one, s), _moments(one), one.slope + s
    by_noise = _growth(noise, log_normalizer(loc, log_std, low, high) - log_std, one.energy(s))
    return (
        one.sign * one.scale * (s - found.s - steepness * by_loc),
        2.0 * (one.energy(s) - found.y) - steepness * by_log_std,
        zero,
        zero,
        -one.sign * steepness * by_noise,
    )


@elementwise(_score_slopes)
def quantile_log_density(loc: Array, log_std: Array, low: Array, high: Array, noise: Array) -> Array:
    """Log-density in nats of the actions `quantile(noise)`, with digits that the actions themselves lose."""
    one = frame(loc, log_std, low, high)
    return -one.energy(_place(one, noise)) - _normalizer(loc, log_std, low, high)


def _log_cdf_slopes(loc: Array, log_std: Array, low: Array, high: Array, actions: Array) -> tuple[Array, ...]:
    one, zero = frame(loc, log_std, low, high), xp.zeros_like(loc)
    by_loc, by_log_std = _shifts(one, one.distance(actions))
    # The ratio is infinite at the lower bound. The limit lets `where` replace its product with 0.
    log_ratio = log_density(loc, log_std, low, high, actions) - log_cdf(loc, log_std, low, high, actions)
    ratio = xp.exp(xp.minimum(log_ratio, 80.0))
    return -ratio * by_loc, -ratio * one.sign * xp.exp(log_std) * by_log_std, zero, zero, ratio


@elementwise(_log_cdf_slopes)
def log_cdf(loc: Array, log_std: Array, low: Array, high: Array, actions: Array) -> Array:
    """Log-probability in nats that a sample is at most `actions`, which are on the interval."""
    one = frame(loc, log_std, low, high)
    s, flat = one.distance(actions), xp.zeros_like(loc)
    size, up = xp.abs(s), s >= 0
    # Shares of the integral from the mode on, in logarithms. The tail beyond s is accurate far from the mode too.
    total = xp.log(_part(one.slope, one.above) + _part(flat, one.below))
    slope, left, right = xp.where(up, one.slope, 0.0), (actions - low) * one.scale, (high - actions) * one.scale
    rest = xp.minimum(xp.where(up == (one.sign > 0), right, left), _LIMIT)
    # From a distance of 2**24 on the fall rounds to 1, whose logarithm would be infinite. It is far below `beyond`.
    fall = xp.minimum(mills_fall(slope, size), 1.0 - float(xp.finfo(s.dtype).eps))
    beyond = size * (slope + 0.5 * size) - xp.log1p(-fall)
    tail = xp.log(_part(slope + size, rest)) - beyond - total
    other = _part(slope, size) + _part(xp.where(up, 0.0, one.slope), xp.where(up, one.below, one.above))
    other = xp.log(other) - total
    below_is_tail = up == (one.sign < 0)
    below, above = xp.where(below_is_tail, tail, other), xp.where(below_is_tail, other, tail)
    small = above < -0.7
    return xp.where(small, xp.log1p(-xp.exp(xp.where(small, above, -1.0))), below)

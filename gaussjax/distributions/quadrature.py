"""Expectations of tanh(u) and of its log-volume log(1 - tanh(u)²) for normal u, by quadrature.

A narrow normal is integrated by the trapezoidal rule, whose error falls exponentially with the number of nodes. The
nodes come in pairs mean ± x, and cosh(mean + x) cosh(mean - x) = (cosh(2 mean) + cosh(2x)) / 2. So a pair of nodes
needs one logarithm and one division, and a recurrence gives cosh(2x) from node to node.

For a wide normal these nodes are too far apart to resolve tanh. So its integrand is split into a part with a closed
form (|u| or the sign of u) and a rest that decays like exp(-2|u|). Gauss nodes for such a rest integrate it on both
sides of 0. The error of either rule is below 1e-6 in float32 and below 1e-11 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import elementwise, xp
from gaussjax.distributions.special import absolute

# From this standard deviation on, the rule for a wide normal replaces the rule for a narrow one.
_WIDE = 1.1


def _slopes(mean: Array, log_std: Array) -> tuple[Array, Array]:
    _, tanh, by_log_std = _expectations(mean, log_std)
    return -2.0 * tanh, by_log_std


@elementwise(_slopes)
def expected_log_det(mean: Array, log_std: Array) -> Array:
    """Expectation of log(1 - tanh(u)²) in nats for normal u, element by element."""
    return _expectations(mean, log_std)[0]


def expected_tanh(mean: Array, log_std: Array) -> Array:
    """Expectation of tanh(u) for normal u, element by element."""
    return _expectations(mean, log_std)[1]


def tanh_stddev(mean: Array, log_std: Array) -> Array:
    """Standard deviation of tanh(u) for normal u, element by element."""
    std, size = xp.exp(log_std), absolute(mean)
    is_narrow = std < _WIDE
    # Far from 0 the spread comes from the tail that is nearer to 0, which the many nodes of float64 reach.
    narrow = xp.where(is_narrow, std, _WIDE)
    power = xp.exp(-2.0 * size)
    offset = _along_last(_PAIR_NODES, narrow) * xp.expand_dims(narrow, -1)
    # cosh(2 offset) - 1. A small one keeps its digits in this form.
    growth = 2.0 * xp.square(xp.sinh(offset))
    least = xp.expand_dims(0.5 * xp.square(1.0 + power), -1)
    level = least + xp.expand_dims(power, -1) * growth
    # Half the difference of tanh at a pair of nodes, and the fall of its average from the pair at the mean. Both are
    # divided by exp(-2 size) and std, because the squares of small numbers would underflow.
    half = xp.sinh(2.0 * offset) / (level * xp.expand_dims(narrow, -1))
    most = xp.expand_dims(0.5 * (1.0 - xp.square(power)), -1)
    fall = most * growth / (level * least * xp.expand_dims(narrow, -1))
    apart = fall - xp.expand_dims(_total(_PAIR_WEIGHTS, fall), -1)
    narrow = power * narrow * xp.sqrt(_total(_PAIR_WEIGHTS, xp.square(half) + xp.square(apart)))

    # For a wide normal, (1 - tanh(u)) / 2 = sigmoid(-2u) is split into a step at u = 0 and a decaying rest.
    wide = xp.where(is_narrow, _WIDE, std)
    (right, _), (left, _) = (_density(_LEGENDRE, size, wide, sign) for sign in (1.0, -1.0))
    beyond = 0.5 * xp.erfc(size / (wide * math.sqrt(2.0)))
    first = beyond + _total(_SIGMOID, right - left)
    second = beyond + _total(_SQUARED_SIGMOID, right + left) - 2.0 * _total(_SIGMOID, left)
    spread = second - xp.square(first)
    least = float(xp.finfo(std.dtype).tiny)
    return xp.where(is_narrow, narrow, 2.0 * xp.sqrt(xp.where(spread > least, spread, least)))


def _expectations(mean: Array, log_std: Array) -> tuple[Array, Array, Array]:
    """Expectations of log(1 - tanh(u)²) and tanh(u), and the derivative of the first by log_std."""
    std = xp.exp(log_std)
    is_narrow = std < _WIDE
    narrow = _narrow(mean, xp.where(is_narrow, std, _WIDE))

    def mixed() -> tuple[Array, ...]:
        wide = _wide(mean, xp.where(is_narrow, _WIDE, std))
        return tuple(xp.where(is_narrow, one, other) for one, other in zip(narrow, wide, strict=True))

    # Most policies are narrow, and the rule for a wide normal takes as long again.
    return xp.unless_all(is_narrow, mixed, narrow)


def _narrow(mean: Array, std: Array) -> tuple[Array, Array, Array]:
    size = absolute(mean)
    logs = inverses = slopes = 0.0
    for weight, node, level, sinh in _pairs(size, std):
        inverse = 1.0 / level
        logs = logs + weight * xp.log(level)
        inverses = inverses + weight * inverse
        slopes = slopes + (2.0 * weight * node) * (sinh * inverse)
    tanh = -0.5 * xp.expm1(-4.0 * size) * inverses
    by_log_std = -std * xp.exp(-2.0 * size) * slopes
    return math.log(2.0) - 2.0 * size - logs, xp.where(mean < 0, -tanh, tanh), by_log_std


def _wide(mean: Array, std: Array) -> tuple[Array, Array, Array]:
    nodes, weights = _GAUSS[xp.finfo(mean.dtype).bits]
    (right, z_right), (left, z_left) = (_density(nodes, mean, std, sign) for sign in (1.0, -1.0))
    z = mean / std
    middle = math.sqrt(2.0 / math.pi) * std * xp.exp(-0.5 * xp.square(z))
    sign = xp.erf(z / math.sqrt(2.0))
    log_det = 2.0 * (math.log(2.0) - (mean * sign + middle) - _total(weights, right + left))
    # The derivatives of the sum, because the nodes are made for its integrand.
    tanh = sign + _total(weights, right * z_right + left * z_left) / std
    curvature = right * (xp.square(z_right) - 1.0) + left * (xp.square(z_left) - 1.0)
    return log_det, tanh, -2.0 * (middle + _total(weights, curvature))


def _pairs(size: Array, std: Array) -> Iterator[tuple[float, float, Array, Array]]:
    """For each pair of nodes size ± std·x: its weight, x, a level and sinh(2 std x).

    The product of cosh at the two nodes is the level times exp(2 size) / 2.
    """
    step, weights = _TRAPEZOID[xp.finfo(std.dtype).bits]
    power = xp.exp(-2.0 * size)
    least = 0.5 * xp.square(1.0 + power)
    growth = xp.expm1(2.0 * step * std)
    shrunk = growth / (1.0 + growth)
    # cosh - 1 instead of cosh, because a small one keeps its digits.
    first = 0.5 * growth * shrunk
    cosh, sinh = xp.zeros_like(std), xp.zeros_like(std)
    before = first, -0.5 * (growth + shrunk)
    for k, weight in enumerate(weights):
        yield weight, step * k, least + power * cosh, sinh
        following = 2.0 * (cosh + first + first * cosh) - before[0], 2.0 * (sinh + first * sinh) - before[1]
        (cosh, sinh), before = following, (cosh, sinh)


def _density(nodes: np.ndarray, mean: Array, std: Array, sign: float) -> tuple[Array, Array]:
    """Density of the normal at `sign` times the nodes, and these nodes in standard deviations, along a new axis."""
    places = sign * _along_last(nodes, mean)
    scale = xp.expand_dims(1.0 / std, -1)
    z = (places - xp.expand_dims(mean, -1)) * scale
    return xp.exp(-0.5 * xp.square(z)) * (scale / math.sqrt(2.0 * math.pi)), z


def _along_last(values: np.ndarray, like: Array) -> Array:
    return xp.reshape(xp.constant(values, like), (*(1,) * len(xp.shape(like)), len(values)))


def _total(weights: np.ndarray, values: Array) -> Array:
    return xp.einsum_exact("...k,k->...", values, xp.constant(weights, values))


def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights of the integral over [0, ∞) of a smooth function times log(1 + exp(-2u)).

    The recurrence of the orthogonal polynomials gives the matrix whose eigenvalues are the nodes (Golub and Welsch
    1969).
    """
    nodes, weights = np.polynomial.legendre.leggauss(60)
    u, weight = np.concatenate([nodes + 2 * i + 1 for i in range(20)]), np.tile(weights, 20)
    measure = weight * np.log1p(np.exp(-2.0 * u))
    diagonal, beside, before, now = [], [], np.zeros_like(u), np.full_like(u, measure.sum() ** -0.5)
    for _ in range(count):
        diagonal.append(np.sum(measure * u * np.square(now)))
        following = (u - diagonal[-1]) * now - (beside[-1] if beside else 0.0) * before
        beside.append(np.sum(measure * np.square(following)) ** 0.5)
        before, now = now, following / beside[-1]
    found, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
    return found, measure.sum() * np.square(vectors[0])


def _trapezoid(step: float, count: int) -> tuple[float, tuple[float, ...]]:
    """Distance of the nodes, and the weight of each pair of nodes; the first pair is one node."""
    weights = np.exp(-0.5 * np.square(step * np.arange(count))) * np.where(np.arange(count), 2.0, 1.0)
    return step, tuple((weights / weights.sum()).tolist())


# The rules by the size of a float in bits. They are made when the module is imported, because torch.compile cannot
# trace how they are computed.
_TRAPEZOID = {32: _trapezoid(0.5, 12), 64: _trapezoid(0.3, 36)}
_GAUSS = {32: _gauss(10), 64: _gauss(24)}
_PAIR_WEIGHTS = np.array(_TRAPEZOID[64][1])
_PAIR_NODES = _TRAPEZOID[64][0] * np.arange(len(_PAIR_WEIGHTS))
# Gauss–Legendre nodes for standard deviations end at |u| = 16, where exp(-2|u|) is below float64's last bit. Their
# weights are multiplied by sigmoid(-2u) and by its square.
_unit_nodes, _unit_weights = np.polynomial.legendre.leggauss(40)
_LEGENDRE = 8.0 * (_unit_nodes + 1.0)
_SIGMOID = 8.0 * _unit_weights / (1.0 + np.exp(2.0 * _LEGENDRE))
_SQUARED_SIGMOID = _SIGMOID / (1.0 + np.exp(2.0 * _LEGENDRE))

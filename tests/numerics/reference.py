"""True values and derivatives at 330 bits, on the exact numbers that the tested functions are given.

Arrays hold mpmath numbers, and NumPy's arithmetic works on them element by element. Formulas are the plain ones of a
textbook, because 330 bits leave digits to lose. Derivatives are differences over steps of 2⁻⁸⁰ of an argument's unit,
whose error is far below the last bit of float64.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

Exact = np.ndarray
"""An array of dtype object whose items are `mpmath.mpf`."""

context = mpmath.MPContext()
context.prec = 330

exp = np.frompyfunc(context.exp, 1, 1)
expm1 = np.frompyfunc(context.expm1, 1, 1)
log = np.frompyfunc(context.log, 1, 1)
log1p = np.frompyfunc(context.log1p, 1, 1)
tanh = np.frompyfunc(context.tanh, 1, 1)
cosh = np.frompyfunc(context.cosh, 1, 1)
erfc = np.frompyfunc(context.erfc, 1, 1)

ROOT_2, TWO_PI = context.sqrt(2), 2 * context.pi
HALF_LOG_2PI = context.log(TWO_PI) / 2
_STEP = context.mpf(2) ** -80


def exact(array: np.ndarray) -> Exact:
    """The numbers of a float array as they are, without rounding."""
    return np.frompyfunc(lambda x: context.mpf(float(x)), 1, 1)(np.asarray(array))


def results(
    function: Callable[..., Exact], inputs: Sequence[Exact], by: Sequence[int], units: Sequence[Exact], order: int
) -> list[Exact]:
    """The value `(n,)`; for order 1 also the gradients `(n, k)`; for order 2 also second derivatives, `(n, k)`.

    There is one gradient for each argument in `by`, and one second derivative for each pair of them: along the first
    one's units, by each entry of the second one times its unit.
    """

    def at(*moves: tuple[int, Exact]) -> Exact:
        moved = list(inputs)
        for i, step in moves:
            moved[i] = moved[i] + step
        return function(*moved)

    def entries(unit: Exact) -> list[Exact]:
        # One step for each entry of the last axis.
        if unit.ndim == 1:
            return [_STEP * unit]
        return [_STEP * unit * (np.arange(unit.shape[1]) == k).astype(int) for k in range(unit.shape[1])]

    value, steps = function(*inputs), [(i, _STEP * unit, entries(unit)) for i, unit in zip(by, units, strict=True)]
    first = [
        np.stack([(at((i, b)) - at((i, -b))) / 2 for b in parts], -1) / np.reshape(step, (len(value), -1))
        for i, step, parts in steps
    ]
    second = {}
    for (i, a, _), (j, _, parts) in itertools.product(steps, steps) if order == 2 else ():
        if value.shape == a.shape and (j, i) in second:
            second[i, j] = second[j, i]
            continue
        columns = [at((i, a), (j, b)) - at((i, a), (j, -b)) - at((i, -a), (j, b)) + at((i, -a), (j, -b)) for b in parts]
        second[i, j] = np.stack(columns, -1) / (4 * _STEP**2)
    return [value, *first, *second.values()][: (1, 1 + len(by), None)[order]]


def normal(mean: Exact, log_std: Exact, actions: Exact) -> Exact:
    """Log-density of a normal."""
    z = (actions - mean) * exp(-log_std)
    return -z * z / 2 - log_std - HALF_LOG_2PI


def entropy(log_std: Exact) -> Exact:
    """Entropy of a normal."""
    return log_std + HALF_LOG_2PI + context.mpf(1) / 2


def tanh_log_det(u: Exact) -> Exact:
    """log(1 - tanh²)."""
    return -2 * log(cosh(u))


def log_normal_cdf(x: Exact) -> Exact:
    """log Φ."""
    # The smaller of the two masses: the other one is 1 but for it.
    smaller = erfc(abs(x) / ROOT_2) / 2
    return np.where(x < 0, log(smaller), log1p(-smaller))


def divergence(mean: Exact, log_std: Exact, other_mean: Exact, other_log_std: Exact) -> Exact:
    """KL between two normals."""
    z, gap = (mean - other_mean) * exp(-other_log_std), 2 * (log_std - other_log_std)
    return (z * z + expm1(gap) - gap) / 2


def squashed(mean: Exact, log_std: Exact, raw: Exact, half: float) -> Exact:
    """Log-density of `half * tanh(raw)`."""
    return normal(mean, log_std, raw) - tanh_log_det(raw) - context.log(context.mpf(half))


def unsquash(actions: Exact, half: float) -> Exact:
    """The raw actions whose `half * tanh` are the actions."""
    return (log1p(actions / half) - log1p(-actions / half)) / 2


def _mass(a: Exact, b: Exact) -> Exact:
    """Φ(b) - Φ(a), from the tails on the nearer side."""
    below, above = (np.where(a > 0, erfc(x / ROOT_2), erfc(-y / ROOT_2)) for x, y in ((a, b), (b, a)))
    return (below - above) / 2


def _bounds(mean: Exact, log_std: Exact, low: float, high: float) -> tuple[Exact, ...]:
    """Both bounds in standard deviations, and the normal density there."""
    a, b = ((context.mpf(side) - mean) * exp(-log_std) for side in (low, high))
    return a, b, *(exp(-x * x / 2) / context.sqrt(TWO_PI) for x in (a, b))


def censored(mean: Exact, log_std: Exact, actions: Exact, low: float, high: float) -> Exact:
    """Log-probability of an action on a bound, log-density of another."""
    a, b, *_ = _bounds(mean, log_std, low, high)
    tails = np.where(actions <= low, log_normal_cdf(a), log_normal_cdf(-b))
    return np.where((actions > low) & (actions < high), normal(mean, log_std, actions), tails)


def censored_entropy(mean: Exact, log_std: Exact, low: float, high: float) -> Exact:
    """Entropy of a clipped normal: of the two probabilities, and of the density between them."""
    a, b, at_a, at_b = _bounds(mean, log_std, low, high)
    below, above, inside = log_normal_cdf(a), log_normal_cdf(-b), _mass(a, b)
    density = inside * (log_std + HALF_LOG_2PI) + (inside + a * at_a - b * at_b) / 2
    return density - exp(below) * below - exp(above) * above


def censored_divergence(
    mean: Exact, log_std: Exact, other: Exact, other_log_std: Exact, low: float, high: float
) -> Exact:
    """KL between two normals that are clipped to one Box."""
    a, b, at_a, at_b = _bounds(mean, log_std, low, high)
    far_a, far_b, *_ = _bounds(other, other_log_std, low, high)
    inside, gap = _mass(a, b), log_std - other_log_std
    shift, ratio = (mean - other) * exp(-other_log_std), exp(gap)
    # The moments of z = (action - mean) / std between the bounds; the log-ratio of the densities is
    # ((shift + ratio z)² - z²) / 2 - gap.
    first, second = at_a - at_b, inside + a * at_a - b * at_b
    terms = (shift * shift * inside + 2 * shift * ratio * first + (ratio * ratio - 1) * second) / 2 - gap * inside
    for side, far in ((a, far_a), (-b, -far_b)):
        terms = terms + exp(log_normal_cdf(side)) * (log_normal_cdf(side) - log_normal_cdf(far))
    return terms


def _interval(mean: Exact, log_std: Exact, low: float, high: float) -> tuple[Exact, ...]:
    """The bounds in standard deviations, the mass between them, and the density at both over the mass."""
    a, b, at_a, at_b = _bounds(mean, log_std, low, high)
    mass = _mass(a, b)
    return a, b, mass, at_a / mass, at_b / mass


def truncated(mean: Exact, log_std: Exact, actions: Exact, low: float, high: float) -> Exact:
    """Log-density of a normal on an interval."""
    return normal(mean, log_std, actions) - log(_interval(mean, log_std, low, high)[2])


def truncated_entropy(mean: Exact, log_std: Exact, low: float, high: float) -> Exact:
    """Entropy of a normal on an interval."""
    a, b, mass, at_a, at_b = _interval(mean, log_std, low, high)
    return log_std + HALF_LOG_2PI + log(mass) + (1 + a * at_a - b * at_b) / 2


def truncated_divergence(
    mean: Exact, log_std: Exact, other: Exact, other_log_std: Exact, low: float, high: float
) -> Exact:
    """KL between two normals on one interval."""
    a, b, mass, at_a, at_b = _interval(mean, log_std, low, high)
    shift, ratio = (mean - other) * exp(-other_log_std), exp(log_std - other_log_std)
    first, second = at_a - at_b, 1 + a * at_a - b * at_b
    terms = (shift * shift + 2 * shift * ratio * first + (ratio * ratio - 1) * second) / 2 - (log_std - other_log_std)
    return terms + log(_interval(other, other_log_std, low, high)[2]) - log(mass)


def _inverse_tail(tail: Any, start: Any) -> Any:
    """The x with Φ(-x) = tail, by Newton's method for the concave log Φ(-x)."""
    x, target = start, context.log(tail)
    for _ in range(400):
        here = context.erfc(x / ROOT_2) / 2
        step = (context.log(here) - target) * here * context.exp(x * x / 2) * context.sqrt(TWO_PI)
        x = x + step
        if abs(step) <= (abs(x) + abs(step)) * _STEP**3:
            break
    return x


def truncated_quantile(mean: Exact, log_std: Exact, noise: Exact, low: float, high: float) -> Exact:
    """The action whose cumulative probability is that of the noise."""
    mirrored = mean > (context.mpf(low) + context.mpf(high)) / 2
    sign = np.where(mirrored, -1, 1)
    ends = [np.where(mirrored, -context.mpf(x), context.mpf(y)) for x, y in ((high, low), (low, high))]
    a, b = ((end - sign * mean) * exp(-log_std) for end in ends)
    below, above = (erfc(x * sign * noise / ROOT_2) / 2 for x in (-1, 1))
    tail = above * erfc(a / ROOT_2) / 2 + below * erfc(b / ROOT_2) / 2
    z = np.frompyfunc(_inverse_tail, 2, 1)(tail, np.where(a > 0, a, 0))
    return mean + sign * exp(log_std) * z


def _solve(off_diagonal: Any, right: Any) -> Any:
    """Solves (I + N) x = right, `(n, act)`; N has the entries below its diagonal, row by row."""
    noise, places = right.copy(), zip(*np.tril_indices(right.shape[-1], -1), strict=True)
    for k, (i, j) in enumerate(places):
        noise[:, i] = noise[:, i] - off_diagonal[:, k] * noise[:, j]
    return noise


def correlated_noise(mean: Any, log_std: Any, off_diagonal: Any, actions: Any, exp: Callable = exp) -> Any:
    """The noise of actions under a full covariance, `(n, act)`."""
    return _solve(off_diagonal, (actions - mean) * exp(-log_std))


def correlated(mean: Exact, log_std: Exact, off_diagonal: Exact, actions: Exact) -> Exact:
    """Log-density under a full covariance."""
    noise = correlated_noise(mean, log_std, off_diagonal, actions)
    return (-noise * noise / 2 - log_std - HALF_LOG_2PI).sum(-1)


def correlated_divergence(
    mean: Exact, log_std: Exact, pairs: Exact, other: Exact, other_log_std: Exact, other_pairs: Exact
) -> Exact:
    """KL between two normals of full covariance: half the squares of (factor of other)⁻¹ (factor, shift)."""
    count, places = mean.shape[-1], list(zip(*np.tril_indices(mean.shape[-1], -1), strict=True))
    shift = _solve(other_pairs, (mean - other) * exp(-other_log_std))
    gap = log_std - other_log_std
    total = (shift * shift - 1 - 2 * gap).sum(-1)
    for j in range(count):
        column = 0 * mean
        column[:, j] = column[:, j] + 1
        for k, (row, other_column) in enumerate(places):
            if other_column == j:
                column[:, row] = pairs[:, k]
        column = _solve(other_pairs, column * exp(gap))
        total = total + (column * column).sum(-1)
    return total / 2


def squashed_entropy(mean: Exact, log_std: Exact, widest: float) -> Exact:
    """Entropy of tanh(u) for normal u with a standard deviation of at most `widest`, by the trapezoidal rule.

    The poles of log(1 - tanh²) at ±iπ/2 leave an error of exp(-π²/(std·h)) at the step h, and the ends at ±10 one of
    1e-22.
    """
    step = context.mpf(0.2 / widest)
    nodes = np.array([step * i for i in range(-int(10 / step), int(10 / step) + 1)], dtype=object)
    weights = exp(-nodes * nodes / 2)
    size = abs(mean[:, None] + exp(log_std)[:, None] * nodes[None, :])
    parts = 2 * (context.log(2) - size - log1p(exp(-2 * size)))
    return entropy(log_std) + (parts * weights[None, :]).sum(-1) / weights.sum()


def explored(features: Exact, log_std: Exact) -> Exact:
    """Logarithm of the standard deviation of a sum of normals, each times a feature."""
    scaled = features * exp(log_std)
    return log((scaled * scaled).sum(-1)) / 2

"""The true values, at 200 bits, on the exact numbers that the tested functions are given.

Arrays hold mpmath numbers, and NumPy's arithmetic works on them element by element.
"""

import mpmath
import numpy as np

Exact = np.ndarray
"""An array of dtype object whose items are `mpmath.mpf`."""

context = mpmath.MPContext()
context.prec = 200

exp = np.frompyfunc(context.exp, 1, 1)
expm1 = np.frompyfunc(context.expm1, 1, 1)
log = np.frompyfunc(context.log, 1, 1)
log1p = np.frompyfunc(context.log1p, 1, 1)
tanh = np.frompyfunc(context.tanh, 1, 1)
cosh = np.frompyfunc(context.cosh, 1, 1)
erfc = np.frompyfunc(context.erfc, 1, 1)
sqrt = np.frompyfunc(context.sqrt, 1, 1)

TWO_PI = 2 * context.pi
HALF_LOG_2PI = context.log(TWO_PI) / 2


def exact(array: np.ndarray) -> Exact:
    """The numbers of a float array as they are, without rounding."""
    return np.frompyfunc(lambda x: context.mpf(float(x)), 1, 1)(np.asarray(array))


def normal(mean: Exact, log_std: Exact, actions: Exact) -> tuple[Exact, Exact, Exact]:
    """Log-density of a normal, and its gradients by mean and log_std."""
    z = (actions - mean) * exp(-log_std)
    return -z * z / 2 - log_std - HALF_LOG_2PI, z * exp(-log_std), z * z - 1


def tanh_log_det(u: Exact) -> tuple[Exact, Exact]:
    """log(1 - tanh²) and its derivative."""
    return -2 * log(cosh(u)), -2 * tanh(u)


def log_normal_cdf(x: Exact) -> tuple[Exact, Exact]:
    """log Φ and its derivative φ/Φ."""
    root = context.sqrt(2)
    # The smaller of the two masses: the other one is 1 but for it.
    smaller = erfc(abs(x) / root) / 2
    mass = np.where(x < 0, smaller, 1 - smaller)
    value = np.where(x < 0, log(smaller), log1p(-smaller))
    return value, exp(-x * x / 2) / context.sqrt(TWO_PI) / mass


def divergence(mean: Exact, log_std: Exact, other_mean: Exact, other_log_std: Exact) -> tuple[Exact, Exact, Exact]:
    """KL between two normals, and its gradients by the first one's mean and log_std."""
    z, gap = (mean - other_mean) * exp(-other_log_std), 2 * (log_std - other_log_std)
    return (z * z + expm1(gap) - gap) / 2, z * exp(-other_log_std), expm1(gap)


def squashed(mean: Exact, log_std: Exact, raw: Exact, half: float) -> tuple[Exact, Exact, Exact]:
    """Log-density of `half * tanh(raw)` and its gradients by mean and log_std."""
    value, by_mean, by_log_std = normal(mean, log_std, raw)
    return value - tanh_log_det(raw)[0] - context.log(context.mpf(half)), by_mean, by_log_std


def correlated(
    mean: Exact, log_std: Exact, off_diagonal: Exact, actions: Exact
) -> tuple[Exact, tuple[Exact, ...], Exact]:
    """Log-density under a full covariance: the joint, its gradients, and the noise, `(n, act)`.

    The gradients are by mean and by log_std.
    """
    count = mean.shape[-1]
    rows, columns = np.tril_indices(count, -1)
    scaled = (actions - mean) * exp(-log_std)
    factor = np.full((*mean.shape, count), context.mpf(0), dtype=object)
    factor[:, rows, columns] = off_diagonal
    noise = scaled.copy()
    for i in range(count):
        for j in range(i):
            noise[:, i] = noise[:, i] - factor[:, i, j] * noise[:, j]
    value = (-noise * noise / 2 - log_std - HALF_LOG_2PI).sum(-1)
    # With (I + N) noise = scaled, the gradient by scaled is the solution of the transposed system.
    slope = -noise.copy()
    for i in reversed(range(count)):
        for j in range(i + 1, count):
            slope[:, i] = slope[:, i] - factor[:, j, i] * slope[:, j]
    by_mean = -slope * exp(-log_std)
    by_log_std = -slope * scaled - 1
    return value, (by_mean, by_log_std), noise


def squashed_expectations(mean: Exact, log_std: Exact) -> tuple[Exact, Exact, Exact]:
    """E[log(1 - tanh²)], E[tanh] and E[1 - tanh²] for u normal.

    By the trapezoidal rule. The poles at ±iπ/2 leave an error of exp(-π²/(std·h)) at the step h,
    and the ends at ±9 one of 1e-18.
    """
    widest = max(float(s) for s in exp(log_std))
    step = context.mpf(min(0.25, 0.25 / widest))
    count = int(9 / step)
    nodes = np.array([step * i for i in range(-count, count + 1)], dtype=object)
    weights = exp(-nodes * nodes / 2)
    weights = weights / weights.sum()
    u = mean[:, None] + exp(log_std)[:, None] * nodes[None, :]
    power = exp(-2 * abs(u))
    size = (1 - power) / (1 + power)
    slope = 1 - size * size
    parts = (log(slope), np.where(u < 0, -size, size), slope)
    return tuple((part * weights[None, :]).sum(-1) for part in parts)

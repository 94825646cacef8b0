"""Scalar formulas that stay accurate where textbook formulas lose digits, among them tanh and the normal Φ."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Array

from gaussjax.core.arrays import elementwise, exact_sum, xp

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

# Coefficients of exp(x) - 1 - x = x²/2! + x³/3! + …; eighteen terms reach float64's last bit for |x| < 1.
_SERIES = [1.0 / math.factorial(n) for n in range(19, 1, -1)]
# Chebyshev coefficients of -2 log(cosh(u))/u² for |u| < 1, computed at 300 bits. The variable of the series
# is 2u² - 1. float32 needs ten terms, float64 all of them.
_LOG_COSH = (
    -0.9300367484320939305,
    0.0659790961289571705,
    -0.003727686309372976768,
    0.0002389088088839744253,
    -0.00001631075066412384672,
    1.158251950888736731e-6,
    -8.451263928221446328e-8,
    6.290592516212187683e-9,
    -4.754302852526976621e-10,
    3.636812697560352918e-11,
    -2.809327270155135344e-12,
    2.187747841237112142e-13,
    -1.715328555011259519e-14,
    1.352750251845790382e-15,
    -1.072168050137956922e-16,
    8.535013733711748074e-18,
    -6.820455024452699342e-19,
)
# Chebyshev coefficients of (1 + t) times the Mills ratio Φ(-t)/φ(t), computed at 300 bits. The variable of the
# series is (t - 4)/(t + 4), which maps [0, ∞) to [-1, 1). float32 needs fourteen terms, float64 all of them.
_MILLS = (
    1.167052535088247206,
    -0.1610195767134653891,
    -0.02800282182545297472,
    0.03167452189239265886,
    -0.01210323116234536866,
    0.002705612976216709515,
    -0.0002993163620270316593,
    -0.00001716686526879361022,
    0.00001017848926410986744,
    -4.894829570004191772e-7,
    -2.844006500151047843e-7,
    3.076628371381150396e-8,
    9.180378674469537201e-9,
    -1.275610221380873622e-9,
    -3.660279376104133827e-10,
    4.592635934859520519e-11,
    1.718931468764652685e-11,
    -1.272683369870069402e-12,
    -8.668081913316188435e-13,
    1.106155720413674086e-15,
    4.275021077010333383e-14,
    3.790937692263904548e-15,
    -1.847410301059233151e-15,
    -4.041909413070817789e-16,
    5.34085438501735783e-17,
    2.941479937590055145e-17,
)


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
    """Rounded difference `a - b` and its rounding error, whose sum is exactly `a - b`."""
    return exact_sum(a, -b)


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


@elementwise(lambda u: (-2.0 * xp.tanh(u),))
def tanh_log_det(u: Array) -> Array:
    """Logarithm of da/du in nats for `a = tanh(u)`; subtract it from the log-density of u.

    Computed element by element. In float32 `log(1 - tanh(u)**2)` is -inf from |u| = 9 on, and
    `2(log 2 - u - softplus(-2u))` loses all digits near 0.

    Source:
        Haarnoja et al. 2018, appendix C (arXiv:1801.01290).
    """
    size = xp.abs(u)
    square = xp.square(xp.minimum(size, 1.0))
    near = square * chebyshev(_LOG_COSH if xp.finfo(u.dtype).bits == 64 else _LOG_COSH[:10], 2.0 * square - 1.0)
    far = 2.0 * (math.log(2.0) - size - xp.log1p(xp.exp(-2.0 * size)))
    return xp.where(size < 1.0, near, far)


def inverse_affine_tanh(actions: Array, low: Array, high: Array) -> Array:
    """Solves `actions = center + half * tanh(u)` for u, which is finite for every finite action.

    The distances to both bounds are computed from the action itself, because `1 - t` with a rounded
    `t = tanh(u)` loses its digits. An action at or beyond a bound is treated as inside by 2⁻²⁴ half-widths
    (2⁻⁵³ in float64). In float32 this gives |u| = 8.66. The gradient is finite there too.
    """
    half = 0.5 * high - 0.5 * low
    least = 0.5 * float(xp.finfo(actions.dtype).eps)
    below = xp.clip((actions - low) / half, least, 2.0)
    above = xp.clip((high - actions) / half, least, 2.0)
    far = 0.5 * (xp.log(below) - xp.log(above))
    t = (actions - (0.5 * low + 0.5 * high)) / half
    near = xp.abs(t) < 0.5
    sign = xp.astype(xp.where(t < 0, -1.0, 1.0), t.dtype)
    inner = xp.where(near, sign * t, 0.0)
    # XLA's log1p near -0.41 is 240 units in the last place off in float64 (CPU, jax 0.10.2), so log1p gets positive
    # arguments here. Use arctanh(t) once the row "squashed log_prob" of tests/numerics/rows.py passes with it.
    return xp.where(near, 0.5 * sign * xp.log1p(2.0 * inner / (1.0 - inner)), far)


def _cdf_slope(x: Array) -> tuple[Array]:
    t = xp.abs(x)
    ratio, density = _mills(t), _density(t)
    return (xp.where(x < 0, 1.0 / ratio, density / (1.0 - density * ratio)),)


@elementwise(_cdf_slope)
def log_normal_cdf(x: Array) -> Array:
    """Logarithm of Φ(x) in nats; the value and its gradient φ/Φ are accurate for every finite x.

    Source:
        Shepherd and Laframboise 1981, who compute erfc by a Chebyshev series in a fractional variable.
    """
    t = xp.abs(x)
    ratio = _mills(t)
    below = -0.5 * xp.square(x) - HALF_LOG_2PI + xp.log(ratio)
    tail = _density(t) * ratio
    # Avoids log1p near -0.41, where XLA's result is 240 units in the last place off in float64 (CPU, jax 0.10.2).
    # Use log1p throughout once the row "normal log-cdf" of tests/numerics/rows.py passes with it.
    above = xp.where(tail > 0.25, xp.log(1.0 - tail), xp.log1p(-xp.minimum(tail, 0.25)))
    return xp.where(x < 0, below, above)


def _mills(t: Array) -> Array:
    # The Mills ratio Φ(-t)/φ(t) for t >= 0.
    terms = _MILLS if xp.finfo(t.dtype).bits == 64 else _MILLS[:14]
    return chebyshev(terms, (t - 4.0) / (t + 4.0)) / (1.0 + t)


def _density(t: Array) -> Array:
    # The normal density φ(t). The exponential multiplies a relative error of its argument by t²/2, so t² is split into
    # two parts, of which the first is exact. Beyond t = 40 the density is 0 in float64 too. The division by √(2π) keeps
    # XLA from merging the two exponentials into one, which is 65 units in the last place off instead of 4 (CPU, jax
    # 0.10.2). Without the division the row "normal log-cdf" of tests/numerics/rows.py fails.
    t = xp.minimum(t, 40.0)
    coarse = xp.floor(t * 64.0) / 64.0
    main = xp.exp(-0.5 * xp.square(coarse)) / math.sqrt(2.0 * math.pi)
    return main * xp.exp(-0.5 * (t - coarse) * (t + coarse))

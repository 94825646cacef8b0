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
# Chebyshev coefficients of (1 + t) exp(t²/2) Φ(-t), computed at 300 bits. The variable of the
# series is (t - 4)/(t + 4), which maps [0, ∞) to [-1, 1). float32 needs fourteen terms, float64 all of them.
_MILLS = (
    0.4655865996963783659,
    -0.06423751712334330893,
    -0.01117150959672121952,
    0.01263630599437623013,
    -0.004828490640131744018,
    0.001079383410615601331,
    -0.0001194099520285248006,
    -6.848588377676676407e-6,
    4.060629718065490888e-6,
    -1.952754470833836418e-7,
    -1.134594438646756516e-7,
    1.227397138426542054e-8,
    3.662441203341558957e-9,
    -5.088948506210620984e-10,
    -1.460240201209316418e-10,
    1.832196652906422738e-11,
    6.857544400027545883e-12,
    -5.077272058049454842e-13,
    -3.45806436520477391e-13,
    4.412922855809207362e-16,
    1.705486657226691142e-14,
    1.512365327811506712e-15,
    -7.370100783416677526e-16,
    -1.61248855842648837e-16,
    2.130692627650816051e-17,
    1.173480714057240473e-17,
)


# Chebyshev coefficients of log Φ(x) for x from 0 to 1 and from 0 to -1, computed at 300 bits. The variable of the
# series is 2|x| - 1. float32 needs eight terms, float64 all of them.
_LOG_CDF_ABOVE = (
    -0.4009761016620101642,
    0.25879623274409054,
    -0.03200185990008535154,
    0.001402297352384867874,
    0.00002765347898262090819,
    -1.827484487624566527e-6,
    -1.723511397128772674e-7,
    -1.890162707060429631e-9,
    6.428650929727303536e-10,
    4.667596569629771677e-11,
    -2.956425524493408724e-13,
    -2.537388815509329955e-13,
    -1.454568922971181979e-14,
    4.023637430655108384e-16,
    1.037704696814410755e-16,
    4.598590388105318924e-18,
    -2.647597966625658015e-19,
)
_LOG_CDF_BELOW = (
    -1.221531438353135029,
    -0.5730863192368737928,
    -0.04558629477738995789,
    -0.0008502557064729350497,
    0.00003335135024769460695,
    -6.611711211660505344e-7,
    -3.081866523976460565e-8,
    3.888762818858885382e-9,
    -1.862258576784044405e-10,
    1.093647286275735808e-12,
    5.623085077445626228e-13,
    -4.771741521494076233e-14,
    1.683548252018608585e-15,
    4.630879222622860439e-17,
    -1.020980882087639669e-17,
    6.465144608097952727e-19,
    -1.236408410484441904e-20,
)


def chebyshev(coefficients: Sequence[float], narrow_terms: int, x: Array) -> Array:
    """Evaluates a Chebyshev series at x in [-1, 1] by Clenshaw's recurrence; float32 uses the first `narrow_terms`."""
    coefficients = coefficients if xp.finfo(x.dtype).bits == 64 else coefficients[:narrow_terms]
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


def absolute(x: Array) -> Array:
    """Absolute value whose derivative at 0 is 1, so that formulas which agree on both sides keep their derivatives."""
    return xp.where(x < 0, -x, x)


def _ratio_slopes(log_std: Array, other_log_std: Array) -> tuple[Array, Array]:
    gap, rest = _twice_difference(log_std, other_log_std)
    slope = 2.0 * xp.exp(gap) * (1.0 + rest)
    return slope, -slope


@elementwise(_ratio_slopes)
def _ratio_minus_one(log_std: Array, other_log_std: Array) -> Array:
    gap, rest = _twice_difference(log_std, other_log_std)
    return xp.expm1(gap) * (1.0 + rest) + rest


def _divergence_slopes(log_std: Array, other_log_std: Array) -> tuple[Array, Array]:
    slope = _ratio_minus_one(log_std, other_log_std)
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
    difference, rest = exact_sum(a, -b)
    return 2.0 * difference, 2.0 * rest


def _tanh_curvature(u: Array) -> tuple[Array]:
    return (-2.0 * tanh(u) * _tanh_slope(u),)


@elementwise(_tanh_curvature)
def _tanh_slope(u: Array) -> Array:
    power = xp.exp(-2.0 * xp.abs(u))
    return 4.0 * power / xp.square(1.0 + power)


@elementwise(lambda u: (_tanh_slope(u),))
def tanh(u: Array) -> Array:
    """Hyperbolic tangent with an accurate derivative; `1 - tanh²` is 0 in float32 from |u| = 8.7 on."""
    return xp.tanh(u)


@elementwise(lambda u: (-2.0 * tanh(u),))
def tanh_log_det(u: Array) -> Array:
    """Logarithm of da/du in nats for `a = tanh(u)`; subtract it from the log-density of u.

    Computed element by element. In float32 `log(1 - tanh(u)**2)` is -inf from |u| = 9 on, and
    `2(log 2 - u - softplus(-2u))` loses all digits near 0.

    Source:
        Haarnoja et al. 2018, appendix C (arXiv:1801.01290).
    """
    size = xp.abs(u)
    square = xp.square(xp.minimum(size, 1.0))
    near = square * chebyshev(_LOG_COSH, 10, 2.0 * square - 1.0)
    far = 2.0 * (math.log(2.0) - size - xp.log1p(xp.exp(-2.0 * size)))
    return xp.where(size < 1.0, near, far)


def inverse_affine_tanh(actions: Array, low: Array, high: Array, least: float) -> Array:
    """Solves `actions = center + half * tanh(u)` for u, which is finite for every finite action.

    The distances to both bounds are computed from the action itself, because `1 - t` with a rounded
    `t = tanh(u)` loses its digits. An action at or beyond a bound is treated as inside by `least` half-widths;
    2⁻²⁴ gives |u| = 8.66. The gradient is finite there too.
    """
    half = 0.5 * (high - low)
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
    tail, over, under, decay = _tail(absolute(x))
    root = math.sqrt(2.0 * math.pi)
    # For the largest x the ratio over / under is subnormal. At -inf, where the true slope is infinite, this one is the
    # largest number, because infinity times a gradient of 0 would be NaN.
    return (xp.where(x < 0, under / (root * over), decay / (root * (1.0 - tail))),)


@elementwise(_cdf_slope)
def log_normal_cdf(x: Array) -> Array:
    """Logarithm of Φ(x) in nats; the value and its gradient φ/Φ are accurate for every x.

    Source:
        Shepherd and Laframboise 1981, who compute erfc by a Chebyshev series in a fractional variable.
    """
    t = absolute(x)
    place = 2.0 * xp.where(t < 1.0, t, 1.0) - 1.0
    near = xp.where(x < 0, chebyshev(_LOG_CDF_BELOW, 8, place), chebyshev(_LOG_CDF_ABOVE, 8, place))
    tail, over, under, _ = _tail(t)
    # Near 0 a series is used, because log1p near -0.41 is 240 units in the last place off in float64 (CPU, jax 0.10.2).
    above = xp.log1p(-xp.where(t < 1.0, 0.0, tail))
    return xp.where(t < 1.0, near, xp.where(x < 0, xp.log(over / under) - 0.5 * x * x, above))


def _tail(t: Array) -> tuple[Array, Array, Array, Array]:
    """For t >= 0: the probability Φ(-t), numerator and denominator of its ratio to exp(-t²/2), and exp(-t²/2)."""
    # The exponential multiplies a relative error of its argument by t²/2, so t² is split into two parts, of which the
    # first is exact. Beyond t = 40 the tail is 0 in float64 too.
    near = xp.where(t < 40.0, t, 40.0)
    t = xp.minimum(t, float(xp.finfo(t.dtype).max))
    coarse = xp.floor(near * 64.0) / 64.0
    main, rest = -0.5 * xp.square(coarse), -0.5 * (near - coarse) * (near + coarse)
    exponent, lost = exact_sum(main, rest)
    decay = xp.exp(exponent)
    above_one, lost_there = exact_sum(t, xp.ones_like(t))
    series = chebyshev((0.0, *_MILLS[1:]), 14, (t - 4.0) / (t + 4.0))
    # The corrections for rounding enter before the constant of the series, so that they are rounded with it.
    shift = -lost_there / above_one
    corrected = series + (series + _MILLS[0]) * shift
    tail = decay * ((corrected + (series + _MILLS[0]) * lost + _MILLS[0]) / above_one)
    return tail, corrected + _MILLS[0], above_one, decay + decay * lost


def mills(t: Array) -> Array:
    """Mills ratio Φ(-t)/φ(t) for t >= 0: the integral of exp(-(x² - t²)/2) over x from t on."""
    return math.sqrt(2.0 * math.pi) * chebyshev(_MILLS, 14, (t - 4.0) / (t + 4.0)) / (1.0 + t)


def mills_fall(t: Array, step: Array) -> Array:
    """Fall of the Mills ratio from t to t + step, `1 - mills(t + step) / mills(t)`, accurate for small steps too."""
    coefficients = _MILLS if xp.finfo(t.dtype).bits == 64 else _MILLS[:14]
    end, start = (t + step - 4.0) / (t + step + 4.0), (t - 4.0) / (t + 4.0)
    # Clenshaw's recurrence at the start, and its divided difference between both places.
    last = before = slope = slope_before = xp.zeros_like(t)
    for coefficient in reversed(coefficients[1:]):
        slope, slope_before = 2.0 * (end * slope + last) - slope_before, slope
        last, before = 2.0 * start * last - before + coefficient, last
    value, slope = start * last - before + coefficients[0], end * slope + last - slope_before
    change = slope * (8.0 * (1.0 + t)) / ((t + step + 4.0) * (t + 4.0) * value)
    return step / (1.0 + t + step) * (1.0 - change)

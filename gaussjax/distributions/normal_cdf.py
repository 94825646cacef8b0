"""Logarithm of the cumulative distribution function Φ of the normal distribution, accurate in both tails."""

from __future__ import annotations

import math

from jaxtyping import Array

from gaussjax.core.arrays import elementwise, xp
from gaussjax.distributions.special import HALF_LOG_2PI, chebyshev

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


def _slope(x: Array) -> tuple[Array]:
    t = xp.abs(x)
    ratio, density = _mills(t), _density(t)
    return (xp.where(x < 0, 1.0 / ratio, density / (1.0 - density * ratio)),)


@elementwise(_slope)
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
    # Use log1p throughout once the row "normal log-cdf" of tests/numerics/test_bars.py passes with it.
    above = xp.where(tail > 0.25, xp.log(1.0 - tail), xp.log1p(-xp.minimum(tail, 0.25)))
    return xp.where(x < 0, below, above)


def _mills(t: Array) -> Array:
    # The Mills ratio Φ(-t)/φ(t) for t >= 0.
    terms = _MILLS if xp.finfo(t.dtype).bits == 64 else _MILLS[:14]
    return chebyshev(terms, (t - 4.0) / (t + 4.0)) / (1.0 + t)


def _density(t: Array) -> Array:
    # The normal density φ(t). The exponential multiplies a relative error of its argument by t²/2, so t² is
    # split into two parts, of which the first is exact. Beyond t = 40 the density is 0 in float64 too. The
    # division by √(2π) keeps XLA from merging the two exponentials into one. The merged result is 65 units in the
    # last place off instead of 4 (CPU, jax 0.10.2). Without the division the row "normal log-cdf" of
    # tests/numerics/test_bars.py fails.
    t = xp.minimum(t, 40.0)
    coarse = xp.floor(t * 64.0) / 64.0
    main = xp.exp(-0.5 * xp.square(coarse)) / math.sqrt(2.0 * math.pi)
    return main * xp.exp(-0.5 * (t - coarse) * (t + coarse))

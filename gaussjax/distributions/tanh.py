"""Tanh as a change of variables: logarithm of its derivative, and an inverse that is accurate near the bounds."""

from __future__ import annotations

import math

from jaxtyping import Array

from gaussjax.core.arrays import elementwise, xp
from gaussjax.distributions.special import chebyshev

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
    # arguments here. Use arctanh(t) once the row "squashed log_prob" of tests/numerics/test_bars.py passes with it.
    return xp.where(near, 0.5 * sign * xp.log1p(2.0 * inner / (1.0 - inner)), far)

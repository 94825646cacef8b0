"""The inverse error function, rounded where XLA's program for it on a CPU rounds.

A normal number of JAX is `√2 erf⁻¹(u)` of a uniform one. Between them XLA takes a logarithm and
polynomials, whose products and sums the processor fuses: rounded once, not twice. Where a result
ends just above a power of two, one place lost inside comes out as three. So the roundings are
repeated one by one; whether the numbers are those of NumPy or of torch is all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

# Polynomials for erf⁻¹(x) / x, highest power first: the first in w = -log(1 - x²), the others in √w,
# each with where its range of w ends and what is subtracted from its variable. They are XLA's.
_ERF_INV = {
    "float32": (
        (5.0, 2.5, (
            2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
            -0.00417768164, 0.246640727, 1.50140941,
        )),
        (math.inf, 3.0, (
            -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
            0.00943887047, 1.00167406, 2.83297682,
        )),
    ),
    "float64": (
        (6.25, 3.125, (
            -3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18,
            1.115787767802518096e-17, -1.333171662854620906e-16, 2.0972767875968561637e-17,
            6.6376381343583238325e-15, -4.0545662729752068639e-14, -8.1519341976054721522e-14,
            2.6335093153082322977e-12, -1.2975133253453532498e-11, -5.4154120542946279317e-11,
            1.051212273321532285e-09, -4.1126339803469836976e-09, -2.9070369957882005086e-08,
            4.2347877827932403518e-07, -1.3654692000834678645e-06, -1.3882523362786468719e-05,
            0.0001867342080340571352, -0.00074070253416626697512, -0.0060336708714301490533,
            0.24015818242558961693, 1.6536545626831027356,
        )),
        (16.0, 3.25, (
            2.2137376921775787049e-09, 9.0756561938885390979e-08, -2.7517406297064545428e-07,
            1.8239629214389227755e-08, 1.5027403968909827627e-06, -4.013867526981545969e-06,
            2.9234449089955446044e-06, 1.2475304481671778723e-05, -4.7318229009055733981e-05,
            6.8284851459573175448e-05, 2.4031110387097893999e-05, -0.0003550375203628474796,
            0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066,
            -0.0037512085075692412107, 0.005370914553590063617, 1.0052589676941592334,
            3.0838856104922207635,
        )),
        (math.inf, 5.0, (
            -2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-09,
            -3.7894654401267369937e-09, 7.6157012080783393804e-09, -1.4960026627149240478e-08,
            2.9147953450901080826e-08, -6.7711997758452339498e-08, 2.2900482228026654717e-07,
            -9.9298272942317002539e-07, 4.5260625972231537039e-06, -1.9681778105531670567e-05,
            7.5995277030017761139e-05, -0.00021503011930044477347, -0.00013871931833623122026,
            1.0103004648645343977, 4.8499064014085844221,
        )),
    ),
}  # fmt: skip
# log(1 + x) = x - x²/2 + x³ P(x)/Q(x), as in the Cephes library.
_LOG1P = (
    (
        4.5270000862445199635215e-5,
        0.49854102823193375972212,
        6.5787325942061044846969,
        29.911919328553073277375,
        60.949667980987787057556,
        57.112963590585538103336,
        20.039553499201281259648,
    ),
    (
        1.0,
        15.062909083469192043167,
        83.047565967967209469434,
        221.76239823732856465394,
        309.09872225312059774938,
        216.42788614495947685003,
        60.118660497603843919306,
    ),
)
# log(m) = x - x²/2 + x³ P(x) of x = m - 1, in single precision, its P in three parts; and ln 2 in two.
_LOG = (
    (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
    (-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
    (2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_LN2 = (0.693359375, -2.12194440e-4)


class Numbers(NamedTuple):
    """What the functions need of an array library.

    Attributes:
        library: Has `where`, `sqrt` and `frexp`.
        cast: `(array, "float32" or "float64") -> array`.
        log: `(float64 array) -> float64 array`, the logarithm of the machine's C library, which XLA
            calls; another one differs in the last place of one number in two thousand.
    """

    library: Any
    cast: Callable[[Any, str], Any]
    log: Callable[[Any], Any]


class Rounding(NamedTuple):
    """Arithmetic of one precision on float64 arrays.

    Attributes:
        constant: Rounds a number.
        nearest: Rounds an array, the result of one operation.
        fma: a·b + c, rounded once.
    """

    constant: Callable[[float], float]
    nearest: Callable[[Any], Any]
    fma: Callable[[Any, Any, Any], Any]


def rounding_of(dtype: str, numbers: Numbers) -> Rounding:
    """The arithmetic of "float32" or "float64"."""
    if dtype == "float64":
        return Rounding(float, lambda value: value, _fused)

    # A sum, product, quotient or root of two floats, taken in double precision and rounded again,
    # is the one that single precision gives.
    def nearest(value: Any) -> Any:
        return numbers.cast(numbers.cast(value, "float32"), "float64")

    return Rounding(single, nearest, lambda a, b, c: nearest(a * b + c))


def single(number: float) -> float:
    """The float32 nearest to a number that is of ordinary size."""
    # Not by NumPy, whose numbers torch.compile would take for tensors.
    scaled = (2.0**29 + 1.0) * number
    return scaled - (scaled - number)


def erf_inv(x: Any, dtype: str, numbers: Numbers) -> Any:
    """The inverse error function of -1 < x < 1, as XLA computes it on a CPU that fuses, bit for bit.

    Args:
        x: An array of the type `dtype`.
        dtype: "float32" or "float64".
        numbers: Of the library of `x`.

    Source:
        Giles 2012, approximating the erfinv function.
    """
    rounding, library = rounding_of(dtype, numbers), numbers.library
    nearest = rounding.nearest
    wide = numbers.cast(x, "float64")
    w = -_log1p(nearest(-wide * wide), dtype == "float32", rounding, numbers)
    root = nearest(library.sqrt(w))
    if dtype == "float64":
        # torch's root of a double is not always the nearest one; a step of Newton's leads to it.
        root = root + rounding.fma(-root, root, w) / (root + root + 1e-300)
    pieces = _ERF_INV[dtype]

    def piecewise(values: list[Any]) -> Any:
        # Each a number or an array; where two numbers meet, torch forgets that they are doubles.
        chosen = values[-1] + 0.0 * w
        for (end, *_), value in zip(pieces[-2::-1], values[-2::-1], strict=True):
            chosen = library.where(w < end, value, chosen)
        return chosen

    variable = piecewise([nearest((root if index else w) - piece[1]) for index, piece in enumerate(pieces)])
    # Shorter polynomials begin with zeros.
    length = max(len(coefficients) for *_, coefficients in pieces)
    columns = zip(*((0.0,) * (length - len(piece[2])) + piece[2] for piece in pieces), strict=True)
    factor = _polynomial([piecewise([rounding.constant(c) for c in column]) for column in columns], variable, rounding)
    return numbers.cast(nearest(factor * wide), dtype)


def _log1p(x: Any, single: bool, rounding: Rounding, numbers: Numbers) -> Any:
    constant, nearest, _ = rounding
    square = nearest(x * x)
    above, below = (_polynomial([constant(c) for c in part], x, rounding) for part in _LOG1P)
    rest = nearest(nearest(x * square) * nearest(above / below))
    near = nearest(x + nearest(rest - 0.5 * square))
    more = nearest(1.0 + x)
    far = _log(more, rounding, numbers) if single else numbers.log(more)
    return numbers.library.where(abs(x) < constant(math.sqrt(2.0) - 1.0), near, far)


def _log(x: Any, rounding: Rounding, numbers: Numbers) -> Any:
    constant, nearest, fma = rounding
    mantissa, exponent = numbers.library.frexp(x)
    low = mantissa < constant(math.sqrt(0.5))
    exponent = numbers.cast(exponent, "float64") - numbers.cast(low, "float64")
    x = numbers.library.where(low, mantissa + mantissa, mantissa) - 1.0
    square = nearest(x * x)
    cube = nearest(square * x)
    first, second, third = (_polynomial([constant(c) for c in part], x, rounding) for part in _LOG)
    value = fma(fma(first, cube, second), cube, third)
    value = fma(value, cube, nearest(exponent * constant(_LN2[1])))
    return fma(exponent, _LN2[0], nearest(nearest(x - 0.5 * square) + value))


def _polynomial(coefficients: list[Any], x: Any, rounding: Rounding) -> Any:
    value = coefficients[0] + 0.0 * x
    for coefficient in coefficients[1:]:
        value = rounding.fma(value, x, coefficient)
    return value


def _fused(a: Any, b: Any, c: Any) -> Any:
    # a·b + c of doubles, rounded once: the product's and the sum's own errors are doubles too.
    product = a * b
    (high_a, low_a), (high_b, low_b) = _halves(a), _halves(b)
    lost = ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b
    total = product + c
    part = total - product
    return total + (((product - (total - part)) + (c - part)) + lost)


def _halves(x: Any) -> tuple[Any, Any]:
    # Veltkamp's splitting into two halves of 26 bits.
    scaled = 134217729.0 * x
    high = scaled - (scaled - x)
    return high, x - high

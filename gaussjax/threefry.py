"""JAX's random numbers from NumPy: the same bits for the same key, without JAX.

A key is two uint32 words, `jax.random.key_data` of a JAX key. Everything is written over a small set
of operations, `Words`, so that `gaussjax.torch.random` is the same code on tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gaussjax.noise import threefry2x32

_SQRT2 = math.sqrt(2.0)
# Polynomials for erf⁻¹(x) / x, highest power first: the first in w = -log(1 - x²), the others in √w,
# each with where its range of w ends and what is subtracted from its variable. They are XLA's, so that
# the errors are those of `jax.random.normal` as well.
_ERF_INV = {
    "float32": (
        (5.0, 2.5, (
            2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
            -0.00417768164, 0.246640727, 1.50140941,
        )),
        (np.inf, 3.0, (
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
        (np.inf, 5.0, (
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


class Words(NamedTuple):
    """What the generator needs of an array library; a word is 32 bits in the library's own type.

    Attributes:
        library: Has `where`, `log`, `sqrt` and `stack`.
        read: `(uint32 array) -> words`.
        write: `(words) -> uint32 array`.
        count: `(number, like) -> words` 0, 1, …, number - 1.
        word: Makes a constant.
        rotate: `(words, bits) -> words`, to the left.
        shift: `(words, bits) -> words`, to the right, zeros coming in.
        float32: `(words) -> float32 array` of the same bits.
        float64: `(high words, low words) -> float64 array` in [1, 2) whose mantissa they fill.
    """

    library: Any
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    count: Callable[[int, Any], Any]
    word: Callable[[int], Any]
    rotate: Callable[[Any, int], Any]
    shift: Callable[[Any, int], Any]
    float32: Callable[[Any], Any]
    float64: Callable[[Any, Any], Any]

    def hash(self, key: Any, counters: Any) -> tuple[Any, Any]:
        """Two words for each counter below 2³²."""
        words = self.read(key)
        zeros = counters ^ counters
        return threefry2x32(words[0] + zeros, words[1] + zeros, zeros, counters, self.rotate, self.word)

    def draw(self, key: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Two words for each place of an array."""
        size = math.prod(shape)
        if size >= 2**32:
            raise ValueError(f"shape: expected fewer than 2**32 numbers, got {shape}. Draw them in parts.")
        high, low = self.hash(key, self.count(size, key))
        return high.reshape(shape), low.reshape(shape)


def key(seed: int) -> np.ndarray:
    """The key that `jax.random.key(seed)` holds.

    Args:
        seed: From 0 to 2³² - 1, for which JAX's keys are the same with and without 64-bit types.

    Raises:
        ValueError: The seed is another one.

    Example:
        >>> key(7).tolist()
        [0, 7]
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ValueError(f"seed: expected an integer from 0 to 2**32 - 1, got {seed!r}.")
    return np.array([0, seed], np.uint32)


def split(key: Any, num: int = 2, words: Words | None = None) -> Any:
    """As many new keys, `(num, 2)`, as `jax.random.split` makes. The key is consumed."""
    words = words or NUMPY
    return words.write(words.library.stack(words.hash(key, words.count(num, key)), -1))


def fold_in(key: Any, data: int, words: Words | None = None) -> Any:
    """The key that `jax.random.fold_in` makes of a key and a number from 0 to 2³² - 1."""
    words = words or NUMPY
    counter = words.count(1, key) + words.word(data)
    return words.write(words.library.stack(words.hash(key, counter), -1)[0])


def bits(key: Any, shape: tuple[int, ...] = (), words: Words | None = None) -> Any:
    """Random uint32 numbers, those of `jax.random.bits`. The key is consumed."""
    words = words or NUMPY
    high, low = words.draw(key, tuple(shape))
    return words.write(high ^ low)


def uniform(
    key: Any,
    shape: tuple[int, ...] = (),
    dtype: str = "float32",
    minimum: float = 0.0,
    maximum: float = 1.0,
    words: Words | None = None,
) -> Any:
    """Uniform numbers from [minimum, maximum), those of `jax.random.uniform`. The key is consumed.

    Raises:
        ValueError: The type is not "float32" or "float64".
    """
    words = words or NUMPY
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}. Convert the result.")
    high, low = words.draw(key, tuple(shape))
    if dtype == "float64":
        floats = words.float64(high, low)
    else:
        # Random mantissa bits of a float in [1, 2).
        floats = words.float32(words.shift(high ^ low, 9) | words.word(0x3F800000))
    cast = np.dtype(dtype).type
    low_end, high_end = cast(minimum), cast(maximum)
    scaled = (floats - 1.0) * float(high_end - low_end) + float(low_end)
    return words.library.where(scaled < float(low_end), float(low_end) + 0.0 * scaled, scaled)


def normal(key: Any, shape: tuple[int, ...] = (), dtype: str = "float32", words: Words | None = None) -> Any:
    """Standard normal numbers, within three (float64: four) ulp of `jax.random.normal`.

    The key is consumed. The bits behind them are the same; only the roundings of a few products and
    of a logarithm, which XLA fuses, differ.

    Example:
        >>> normal(key(0), (2,)).round(4)
        array([1.6226, 2.0253], dtype=float32)

    Source:
        Salmon et al. 2011 for the bits; Giles 2012, approximating the erfinv function.
    """
    words = words or NUMPY
    # The least float above -1: the inverse error function of -1 is infinite.
    ends = np.array([-1.0, 0.0], np.dtype(dtype) if dtype in ("float32", "float64") else np.float32)
    draws = uniform(key, shape, dtype, float(np.nextafter(*ends)), 1.0, words)
    return erf_inv(draws, dtype, words.library) * float(ends.dtype.type(_SQRT2))


def erf_inv(x: Any, dtype: str, library: Any) -> Any:
    """The inverse error function of -1 < x < 1, as XLA computes it.

    Source:
        Giles 2012, approximating the erfinv function.
    """
    cast = np.dtype(dtype).type
    w = -_log1p(-x * x, cast, library)
    factor = None
    for end, shift, coefficients in reversed(_ERF_INV[dtype]):
        centre = end == _ERF_INV[dtype][0][0]
        value = _polynomial(coefficients, (w if centre else library.sqrt(w)) - shift, cast)
        factor = value if factor is None else library.where(w < end, value, factor)
    return factor * x


def _log1p(x: Any, cast: Any, library: Any) -> Any:
    # XLA's, whose digits are few near -0.41, where it changes from one form to the other.
    square = x * x
    rest = square * _polynomial(_LOG1P[0], x, cast) / _polynomial(_LOG1P[1], x, cast)
    near = x + (-0.5 * square + x * rest)
    return library.where(abs(x) < math.sqrt(2.0) - 1.0, near, library.log(1.0 + x))


def _polynomial(coefficients: tuple[float, ...], x: Any, cast: Any) -> Any:
    value = 0.0 * x + float(cast(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = value * x + float(cast(coefficient))
    return value


def _float64(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    bits = (high.astype(np.uint64) << np.uint64(20)) | (low.astype(np.uint64) >> np.uint64(12))
    return (bits | np.uint64(0x3FF << 52)).view(np.float64)


NUMPY = Words(
    library=np,
    read=lambda key: np.asarray(key, np.uint32)[:, None],
    write=np.asarray,
    count=lambda number, _: np.arange(number, dtype=np.uint32),
    word=np.uint32,
    rotate=lambda words, bits: (words << np.uint32(bits)) | (words >> np.uint32(32 - bits)),
    shift=lambda words, bits: words >> np.uint32(bits),
    float32=lambda words: words.view(np.float32),
    float64=_float64,
)

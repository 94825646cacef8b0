"""Random numbers in NumPy with the same bits for the same key as in `jax.random`, computed without JAX.

A key consists of two uint32 words, the `jax.random.key_data` of a JAX key. The functions take the
operations of an array library, `Words`, so that `gaussjax.torch.random` can use them on tensors.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gaussjax.random.keys import Operations, threefry2x32


class Words(NamedTuple):
    """Operations on 32-bit words in one array library; torch, for example, stores a word as an int32.

    Attributes:
        library: Module with the functions `stack`, `where`, `sqrt` and `copysign`.
        cast: `(array, "float32" or "float64") -> array`.
        quantile: `(float64 array) -> float64 array`, the quantile function of the normal distribution.
        check: Raises TypeError unless its argument is the two words of a key.
        read: `(uint32 array) -> words`.
        write: `(words) -> uint32 array`.
        count: `(number, like) -> words` 0, 1, …, number - 1 on the device of the array `like`.
        operations: Arithmetic for the cipher.
        shift: `(words, number of bits) -> words`, to the right, filled with zeros.
        float32: `(words) -> float32 array` of the same bits.
        float64: `(high words, low words) -> float64 array` on [1, 2) with these mantissa bits.
    """

    library: Any
    cast: Callable[[Any, str], Any]
    quantile: Callable[[Any], Any]
    check: Callable[..., None]
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    count: Callable[[int, Any], Any]
    operations: Operations
    shift: Callable[[Any, int], Any]
    float32: Callable[[Any], Any]
    float64: Callable[[Any, Any], Any]

    def hash(self, key: Any, counters: Any) -> tuple[Any, Any]:
        """Two random words for each counter, computed with the key; counters are below 2³²."""
        words = self.read(key)
        zeros = counters ^ counters
        return threefry2x32(words[0] + zeros, words[1] + zeros, zeros, counters, self.operations)

    def draw(self, key: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Draws two arrays of random words of shape `shape` with the key."""
        self.check(key)
        size = math.prod(shape)
        if size >= 2**32:
            raise ValueError(f"shape: expected fewer than 2**32 numbers, got {shape}. Draw them in parts.")
        high, low = self.hash(key, self.count(size, key))
        return high.reshape(shape), low.reshape(shape)


def key(seed: int) -> np.ndarray:
    """The two words of the key `jax.random.key(seed)`.

    Args:
        seed: Integer from 0 to 2³² - 1. In this range JAX's keys do not depend on x64.

    Returns:
        A uint32 array `(2,)`.

    Raises:
        ValueError: The seed is outside this range.

    Example:
        >>> key(7).tolist()
        [0, 7]
    """
    return np.array([0, _integer(seed, "seed")], np.uint32)


def split(key: Any, num: int = 2, words: Words | None = None) -> Any:
    """Returns the same keys as `jax.random.split`, as words.

    Args:
        key: Two words of a key, which is consumed.
        num: Number of new keys.
        words: Operations of an array library, NumPy by default.

    Returns:
        A uint32 array `(num, 2)`.

    Raises:
        TypeError: `key` is not two words.
        ValueError: `num` is not an integer of 0 or more.

    Example:
        >>> one, other = split(key(0))
        >>> one.tolist()
        [1797259609, 2579123966]
    """
    words = words or NUMPY
    words.check(key)
    num = _integer(num, "num")
    return words.write(words.library.stack(words.hash(key, words.count(num, key)), -1))


def fold_in(key: Any, data: int, words: Words | None = None) -> Any:
    """Returns the same key as `jax.random.fold_in`, as words.

    Args:
        key: Two words of a key, which is not consumed.
        data: Integer from 0 to 2³² - 1; different numbers give different keys.
        words: Operations of an array library, NumPy by default.

    Returns:
        A uint32 array `(2,)`.

    Raises:
        TypeError: `key` is not two words.
        ValueError: `data` is outside this range.

    Example:
        >>> fold_in(key(0), 1).tolist()
        [928981903, 3453687069]
    """
    words = words or NUMPY
    words.check(key)
    data = _integer(data, "data")
    counter = words.count(1, key) + words.operations.word(data)
    return words.write(words.library.stack(words.hash(key, counter), -1)[0])


def bits(key: Any, shape: tuple[int, ...] = (), words: Words | None = None) -> Any:
    """Returns the same uint32 numbers as `jax.random.bits`.

    Args:
        key: Two words of a key, which is consumed.
        shape: Shape of the result.
        words: Operations of an array library, NumPy by default.

    Returns:
        A uint32 array.

    Example:
        >>> bits(key(0), (3,)).shape
        (3,)
    """
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
    """Returns the same numbers as `jax.random.uniform`, on [minimum, maximum).

    float32 numbers, and all numbers on [0, 1), equal JAX's exactly. On other intervals float64 numbers
    can differ by one rounding, because XLA fuses a product with a sum.

    Args:
        key: Two words of a key, which is consumed.
        shape: Shape of the result.
        dtype: "float32" or "float64".
        minimum: Lower bound.
        maximum: Upper bound.
        words: Operations of an array library, NumPy by default.

    Returns:
        An array of that shape and dtype.

    Raises:
        ValueError: `dtype` is neither "float32" nor "float64".

    Example:
        >>> uniform(key(0), (2,)).shape
        (2,)
    """
    words = words or NUMPY
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}. Convert the result.")
    high, low = words.draw(key, tuple(shape))
    if dtype == "float64":
        floats, nearest = words.float64(high, low), float
    else:
        # Random mantissa bits with the exponent bits of 1 make a float in [1, 2).
        floats, nearest = words.float32(words.shift(high ^ low, 9) | words.operations.word(0x3F800000)), _single
    minimum, maximum = nearest(minimum), nearest(maximum)
    # XLA on CPU does not round the product before the sum. float64 holds a product of float32 numbers exactly, too.
    scaled = (words.cast(floats, "float64") - 1.0) * nearest(maximum - minimum) + minimum
    return words.cast(words.library.where(scaled < minimum, minimum + 0.0 * scaled, scaled), dtype)


def normal(key: Any, shape: tuple[int, ...] = (), dtype: str = "float32", words: Words | None = None) -> Any:
    """Standard normal numbers that agree with `jax.random.normal` to a few units in the last place.

    The largest difference on a CPU is 4 units in the last place in float32, and `5e-15 |z| + 5e-16` for a
    float64 number z.

    Args:
        key: Two words of a key, which is consumed.
        shape: Shape of the result.
        dtype: "float32" or "float64".
        words: Operations of an array library, NumPy by default.

    Returns:
        An array of that shape and dtype.

    Example:
        >>> normal(key(0), (2,)).round(4)
        array([1.6226, 2.0253], dtype=float32)
    """
    # The lowest uniform number is the next float above -1, because the quantile of -1 is infinite.
    least = 2.0**-53 - 1.0 if dtype == "float64" else 2.0**-24 - 1.0
    return quantile(uniform(key, shape, dtype, least, 1.0, words), dtype, words)


def quantile(uniforms: Any, dtype: str, words: Words | None = None) -> Any:
    """Maps uniform numbers u on (-1, 1) to standard normal numbers `√2 erf⁻¹(u)`.

    Args:
        uniforms: Uniform numbers.
        dtype: "float32" or "float64", the dtype of the uniform numbers.
        words: Operations of an array library, NumPy by default.

    Returns:
        An array of the same shape and dtype.

    Example:
        >>> quantile(np.array([-0.5, 0.0, 0.5]), "float64").round(4).tolist()
        [-0.6745, 0.0, 0.6745]
    """
    words = words or NUMPY
    # u² is rounded to the dtype of u as in JAX. For u near ±1 this changes results by up to 90 units in the last place.
    square = words.cast(uniforms * uniforms, "float64")
    # Computes the tail probability (1 - |u|) / 2 without cancellation.
    tail = (1.0 - square) / (2.0 + 2.0 * words.library.sqrt(square))
    return words.cast(words.library.copysign(words.quantile(tail), words.cast(uniforms, "float64")), dtype)


def _single(number: float) -> float:
    # Rounds a Python float to float32 by plain arithmetic, because torch.compile turns NumPy scalars into tensors.
    scaled = (2.0**29 + 1.0) * number
    return scaled - (scaled - number)


def _integer(value: Any, name: str) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**32:
        raise ValueError(f"{name}: expected an integer from 0 to 2**32 - 1, got {value!r}.")
    return int(value)


def _check(key: Any) -> None:
    # The words of a key may also be an array of JAX, which this file does not import.
    words = np.asarray(key) if isinstance(key, (list, tuple)) or str(getattr(key, "dtype", "")) == "uint32" else key
    array = isinstance(words, np.ndarray) and not isinstance(key, np.ma.MaskedArray)
    if not array or words.shape != (2,) or words.dtype.kind not in "iu" or not np.all((words >= 0) & (words < 2**32)):
        found = (
            f"an array of type {words.dtype} and shape {words.shape}"
            if array
            else f"a value of type {type(key).__name__}"
        )
        raise TypeError(f"key: expected the two words of a key, got {found}. Make one with threefry.key(0).")


def _rotate(words: np.ndarray, bits: int) -> np.ndarray:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))


def _float64(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    mantissa = (high.astype(np.uint64) << np.uint64(20)) | (low.astype(np.uint64) >> np.uint64(12))
    return (mantissa | np.uint64(0x3FF << 52)).view(np.float64)


def _quantile(probabilities: np.ndarray) -> np.ndarray:
    # scipy.special is imported at its first use, because that takes 0.1 s.
    from scipy import special

    return special.ndtri(probabilities)


NUMPY = Words(
    library=np,
    cast=lambda x, dtype: x.astype(dtype),
    quantile=_quantile,
    check=_check,
    read=lambda key: np.asarray(key, np.uint32)[:, None],
    write=np.asarray,
    count=lambda number, _: np.arange(number, dtype=np.uint32),
    operations=Operations(operator.add, operator.xor, _rotate, np.uint32),
    shift=lambda words, bits: words >> np.uint32(bits),
    float32=lambda words: words.view(np.float32),
    float64=_float64,
)

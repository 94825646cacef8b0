"""JAX's random numbers from NumPy: the same bits for the same key, without JAX.

A key is two uint32 words, `jax.random.key_data` of a JAX key. Everything is written over a small set
of operations, `Words`, so that `gaussjax.torch.random` is the same code on tensors.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gaussjax.random.inverse_error import Numbers, erf_inv, rounding_of
from gaussjax.random.normal import Operations, threefry2x32


class Words(NamedTuple):
    """What the generator needs of an array library; a word is 32 bits in the library's own type.

    Attributes:
        numbers: For the steps from bits to numbers; their library has `stack` as well.
        read: `(uint32 array) -> words`.
        write: `(words) -> uint32 array`.
        count: `(number, like) -> words` 0, 1, …, number - 1.
        operations: Of the hash.
        shift: `(words, bits) -> words`, to the right, zeros coming in.
        float32: `(words) -> float32 array` of the same bits.
        float64: `(high words, low words) -> float64 array` in [1, 2) whose mantissa they fill.
    """

    numbers: Numbers
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    count: Callable[[int, Any], Any]
    operations: Operations
    shift: Callable[[Any, int], Any]
    float32: Callable[[Any], Any]
    float64: Callable[[Any, Any], Any]

    def hash(self, key: Any, counters: Any) -> tuple[Any, Any]:
        """Two words for each of the `counters` below 2³², by the `key`."""
        words = self.read(key)
        zeros = counters ^ counters
        return threefry2x32(words[0] + zeros, words[1] + zeros, zeros, counters, self.operations)

    def draw(self, key: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """Two words for each place of an array of that `shape`, by the `key`."""
        size = math.prod(shape)
        if size >= 2**32:
            raise ValueError(f"shape: expected fewer than 2**32 numbers, got {shape}. Draw them in parts.")
        high, low = self.hash(key, self.count(size, key))
        return high.reshape(shape), low.reshape(shape)


def key(seed: int) -> np.ndarray:
    """The key that `jax.random.key(seed)` holds.

    Args:
        seed: From 0 to 2³² - 1, for which JAX's keys are the same with and without 64-bit types.

    Returns:
        A uint32 array `(2,)`.

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
    """The keys that `jax.random.split` makes.

    Args:
        key: Consumed.
        num: How many.
        words: The operations of another array library than NumPy.

    Returns:
        A uint32 array `(num, 2)`.

    Example:
        >>> one, other = split(key(0))
        >>> one.tolist()
        [1797259609, 2579123966]
    """
    words = words or NUMPY
    return words.write(words.numbers.library.stack(words.hash(key, words.count(num, key)), -1))


def fold_in(key: Any, data: int, words: Words | None = None) -> Any:
    """The key that `jax.random.fold_in` makes of a key and a number.

    Args:
        key: Not consumed: fold in another number for another key.
        data: From 0 to 2³² - 1.
        words: The operations of another array library than NumPy.

    Returns:
        A uint32 array `(2,)`.

    Example:
        >>> fold_in(key(0), 1).shape
        (2,)
    """
    words = words or NUMPY
    counter = words.count(1, key) + words.operations.word(data)
    return words.write(words.numbers.library.stack(words.hash(key, counter), -1)[0])


def bits(key: Any, shape: tuple[int, ...] = (), words: Words | None = None) -> Any:
    """Random uint32 numbers, those of `jax.random.bits`.

    Args:
        key: Consumed.
        shape: Of the result.
        words: The operations of another array library than NumPy.

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
    """Uniform numbers from [minimum, maximum), those of `jax.random.uniform`.

    Args:
        key: Consumed.
        shape: Of the result.
        dtype: "float32" or "float64".
        minimum: The least of them.
        maximum: Above all of them.
        words: The operations of another array library than NumPy.

    Returns:
        An array of that shape and type.

    Raises:
        ValueError: The type is another one.

    Example:
        >>> uniform(key(0), (2,)).shape
        (2,)
    """
    words = words or NUMPY
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype: expected 'float32' or 'float64', got {dtype!r}. Convert the result.")
    high, low = words.draw(key, tuple(shape))
    if dtype == "float64":
        floats = words.float64(high, low)
    else:
        # Random mantissa bits of a float in [1, 2).
        floats = words.float32(words.shift(high ^ low, 9) | words.operations.word(0x3F800000))
    rounding, cast = rounding_of(dtype, words.numbers), words.numbers.cast
    low_end, high_end = rounding.constant(minimum), rounding.constant(maximum)
    scaled = rounding.fma(cast(floats, "float64") - 1.0, rounding.constant(high_end - low_end), low_end)
    return cast(words.numbers.library.where(scaled < low_end, low_end + 0.0 * scaled, scaled), dtype)


def normal(key: Any, shape: tuple[int, ...] = (), dtype: str = "float32", words: Words | None = None) -> Any:
    """Standard normal numbers, those of `jax.random.normal` on a CPU.

    They are the same bit for bit where the processor fuses products and sums, as x86 does from AVX2 on.
    JAX's own numbers differ in the last places from one kind of device to another.

    Args:
        key: Consumed.
        shape: Of the result.
        dtype: "float32" or "float64".
        words: The operations of another array library than NumPy.

    Returns:
        An array of that shape and type.

    Example:
        >>> normal(key(0), (2,)).round(4)
        array([1.6226, 2.0253], dtype=float32)

    Source:
        Salmon et al. 2011 for the bits; Giles 2012, approximating the erfinv function.
    """
    words = words or NUMPY
    # The least number above -1: the inverse error function of -1 is infinite.
    least = 2.0**-53 - 1.0 if dtype == "float64" else 2.0**-24 - 1.0
    draws = uniform(key, shape, dtype, least, 1.0, words)
    return erf_inv(draws, dtype, words.numbers) * rounding_of(dtype, words.numbers).constant(math.sqrt(2.0))


def _float64(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    bits = (high.astype(np.uint64) << np.uint64(20)) | (low.astype(np.uint64) >> np.uint64(12))
    return (bits | np.uint64(0x3FF << 52)).view(np.float64)


def _log(x: np.ndarray) -> np.ndarray:
    # NumPy's own is another one than the C library's.
    return np.asarray(np.frompyfunc(math.log, 1, 1)(x), np.float64)


NUMPY = Words(
    numbers=Numbers(np, lambda x, dtype: x.astype(dtype), _log),
    read=lambda key: np.asarray(key, np.uint32)[:, None],
    write=np.asarray,
    count=lambda number, _: np.arange(number, dtype=np.uint32),
    operations=Operations(
        operator.add,
        operator.xor,
        lambda words, bits: (words << np.uint32(bits)) | (words >> np.uint32(32 - bits)),
        np.uint32,
    ),
    shift=lambda words, bits: words >> np.uint32(bits),
    float32=lambda words: words.view(np.float32),
    float64=_float64,
)

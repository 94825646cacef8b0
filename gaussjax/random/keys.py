"""Functions of `jax.random` that compile faster, with the same results, for typed and legacy keys.

On CPU `jax.random` lowers each use of a threefry key to a while loop with a dozen kernels. Here the cipher is plain
arithmetic, which fuses; `gaussjax.random.threefry` and torch use the same cipher. `jax.random` itself is called for
keys of other ciphers, for threefry that is not partitionable, and while JAX's checker of reused keys is on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int32, Integer, Key, UInt32

OneKey = Key[Array, ""] | UInt32[Array, "2"]
"""One PRNG key, typed or legacy."""

# Constants of Threefry-2x32: bit rotations of two alternating groups of rounds, and parity of the key schedule.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def check(key: Any, note: str = "") -> None:
    """Raises TypeError, which ends with `note`, unless the argument is one PRNG key of JAX, typed or legacy."""
    array = isinstance(key, (jax.Array, np.ndarray, np.generic)) and not isinstance(key, np.ma.MaskedArray)
    if array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.shape == ():
            return
        found = f"{key.size} keys in an array of shape {key.shape}"
    elif array and key.dtype == np.uint32 and key.shape == jax.eval_shape(jax.random.PRNGKey, 0).shape:
        return
    elif array:
        found = f"an array of type {key.dtype} and shape {key.shape}"
    else:
        found = repr(key) if isinstance(key, (int, float, str, type(None))) else f"a value of type {type(key).__name__}"
    raise TypeError(
        f"key: expected one PRNG key, got {found}. Make one with jax.random.key(0); for several keys "
        f"use jax.vmap, and jax.random.split for a new key at each call.{note}"
    )


def from_seed(seed: int) -> OneKey:
    """Returns the key `jax.random.key(seed)`, and for a seed of 2³² or more a key that differs from all of these.

    Without x64 `jax.random.key` ignores all but the last 32 bits of a seed.

    Example:
        >>> bool(from_seed(7) == jax.random.key(7)), bool(from_seed(2**32 + 7) == jax.random.key(7))
        (True, False)
    """
    key = jax.random.key(seed % 2**32)
    return jax.random.fold_in(key, seed >> 32) if seed >> 32 else key


def split(key: OneKey, num: int = 2) -> Key[Array, " num"] | UInt32[Array, "num 2"]:
    """Returns the same `num` keys as `jax.random.split`, of the type of the old key, which is consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((split(key) == jax.random.split(key)).all())
        True
    """
    words = key_words(key)
    if words is None:
        return jax.random.split(key, num)
    return _like(key, _derived(words, counter((num,))))


def fold_in(key: OneKey, data: Any) -> OneKey:
    """Returns the same key as `jax.random.fold_in` for a number from 0 to 2³² - 1; the old key is not consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(fold_in(key, 1) == jax.random.fold_in(key, 1))
        True
    """
    words = key_words(key)
    if words is None:
        return jax.random.fold_in(key, data)
    return _like(key, _derived(words, jnp.uint32(data)))


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def bits(key: OneKey, shape: tuple[int, ...] = ()) -> UInt32[Array, "..."]:
    """Returns the same uint32 numbers as `jax.random.bits`; the key is consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((bits(key, (3,)) == jax.random.bits(key, (3,))).all())
        True
    """
    words = draw(key, shape)
    return jax.random.bits(key, shape, "uint32") if words is None else once(words[0] ^ words[1], words[1])


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def randint(
    key: OneKey, shape: tuple[int, ...], minval: int | Integer[Array, "..."], maxval: int | Integer[Array, "..."]
) -> Int32[Array, "..."]:
    """Returns the same int32 numbers as `jax.random.randint`, uniform on [minval, maxval); the key is consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((randint(key, (3,), 0, 10) == jax.random.randint(key, (3,), 0, 10)).all())
        True
    """
    low, high = jnp.asarray(minval, jnp.int32), jnp.asarray(maxval, jnp.int32)
    if key_words(key) is None:
        return jax.random.randint(key, shape, low, high, jnp.int32)
    pair = split(key)
    more, less = bits(pair[0], shape), bits(pair[1], shape)
    span = jnp.where(high > low, high - low, 1).astype(jnp.uint32)
    # Computes 64 random bits modulo the span in 32-bit arithmetic, as `jax.random.randint` does.
    factor = jnp.uint32(2**16) % span
    factor = (factor * factor) % span
    return low + ((more % span * factor + less % span) % span).astype(jnp.int32)


def standard_normal(key: OneKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Float[Array, "..."]:
    """Returns the same numbers as `jax.random.normal(key, shape, dtype)`, bit for bit; the key is consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(np.all(standard_normal(key, (3,)) == jax.random.normal(key, (3,))))
        True
    """
    check(key)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    # Draws the noise as one flat row. For rows whose width is not a power of two XLA computes each index by a division.
    # `act` then takes 1.4 times as long at 256 rows of 6 actions and 1.9 times at 4096 (jax 0.10.2, CPU). Drop the
    # flat row when `python -m benchmarks act` shows no difference without it.
    in_one_row = all(isinstance(size, int) for size in shape) and bool(shape) and shape[-1] & (shape[-1] - 1)
    drawn = (math.prod(shape),) if in_one_row else tuple(shape)
    words = draw(key, drawn) if dtype in (jnp.float32, jnp.float64) else None
    if words is None:
        return jax.random.normal(key, shape, dtype)
    high, low = words

    # Repeats the steps of jax.random.uniform and jax.random.normal in their order. Random mantissa bits make a
    # float in [1, 2), which is shifted and scaled to the open interval (-1, 1).
    finfo = jnp.finfo(dtype)
    wide = finfo.bits == 64
    bits = (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64) if wide else high ^ low
    uint, one = bits.dtype.type, np.array(1, dtype)
    bits = (bits >> uint(finfo.bits - finfo.nmant)) | one.view(uint)
    # The lowest uniform number is the next float above -1, because erf_inv(-1) is infinite.
    minimum = np.nextafter(-one, np.array(0, dtype), dtype=dtype)
    uniform = (lax.bitcast_convert_type(bits, dtype) - one) * (one - minimum) + minimum
    uniform = lax.max(jnp.full(drawn, minimum), uniform)
    return once(lax.erf_inv(uniform) * np.array(np.sqrt(2), dtype), low).reshape(shape)


def _like(key: Array, words: UInt32[Array, "... 2"]) -> Array:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key)) if typed else words


@functools.partial(jax.jit, inline=True)
def _derived(words: UInt32[Array, "2"], counters: UInt32[Array, "..."]) -> UInt32[Array, "... 2"]:
    """The words of the new keys, one key for each counter."""
    # A select instead of a stack, because XLA would compute the hash twice, once for each operand of a stack.
    shape = (*counters.shape, 2)
    place = lax.broadcasted_iota(jnp.uint32, shape, counters.ndim)
    first, second = hash_words(words, lax.broadcast_in_dim(counters, shape, range(counters.ndim)))
    chosen = lax.select(lax.eq(place, np.uint32(0)), first, second)
    return once(chosen, chosen)


class Operations(NamedTuple):
    """Arithmetic on 32-bit words, as functions of one array library.

    Attributes:
        add: `(words, words) -> words`, modulo 2³².
        xor: `(words, words) -> words`.
        rotate: `(words, number of bits) -> words`, to the left.
        word: `(int) -> word`, a constant.
    """

    add: Callable[[Any, Any], Any]
    xor: Callable[[Any, Any], Any]
    rotate: Callable[[Any, int], Any]
    word: Callable[[int], Any]


def threefry2x32(k0: Any, k1: Any, x0: Any, x1: Any, operations: Operations) -> tuple[Any, Any]:
    """Encrypts the counter words (x0, x1) with the key (k0, k1) in 20 rounds; the result is two random words.

    Source:
        Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3.
    """
    add, xor, rotate, word = operations
    keys = (k0, k1, xor(xor(k0, k1), word(_PARITY)))
    x0, x1 = add(x0, k0), add(x1, k1)
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            x0 = add(x0, x1)
            x1 = xor(x0, rotate(x1, bits))
        x0 = add(x0, keys[(group + 1) % 3])
        x1 = add(x1, add(keys[(group + 2) % 3], word(group + 1)))
    return x0, x1


def _rotate(x: Array, count: int) -> Array:
    return lax.bitwise_or(lax.shift_left(x, np.uint32(count)), lax.shift_right_logical(x, np.uint32(32 - count)))


# Functions of lax instead of operators such as `+`, because JAX traces each operator as a nested function.
_JAX = Operations(lax.add, lax.bitwise_xor, _rotate, np.uint32)


def hash_words(words: UInt32[Array, "2"], counters: UInt32[Array, "..."]) -> tuple[Array, Array]:
    """Two random words for each counter, computed with the two words of a key."""
    first, second = (lax.index_in_dim(words, i, keepdims=False) for i in range(2))
    return threefry2x32(first, second, np.uint32(0), counters, _JAX)


def draw(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array] | None:
    """Two random words for each entry of a shape, or None if `jax.random` has to draw them."""
    words = key_words(key)
    # Symbolic sizes, as in exported programs, are assumed to be small.
    if words is None or math.prod(size for size in shape if isinstance(size, int)) >= 2**32:
        return None
    return hash_words(words, counter(tuple(shape)))


# XLA on CPU copies a cheap computation into each kernel that uses it (jax 0.10.2). Without `once` it computes the noise
# for the actions and again for log_prob. `act` then takes 1.2 to 2.2 times as long at 256 to 4096 rows of 3 to 8
# actions. A PPO program takes 1.3 times as long to compile. Drop `once` when
# test_xla_copies_a_hash_into_each_consumer fails.
def once(x: Array, random_bits: UInt32[Array, "..."]) -> Array:
    """Returns x in a form that XLA computes once and stores, instead of again in each kernel that uses it."""
    # Divides x by 1, because XLA never copies a division. XLA cannot know that the divisor is 1, because it is made
    # from random bits. `lax.optimization_barrier` does not help: XLA removes it before the CPU backend fuses.
    zero = (random_bits >> np.uint32(31)) >> np.uint32(1)
    return lax.div(x, zero.astype(x.dtype) + np.array(1, x.dtype))


def key_words(key: Any) -> UInt32[Array, "2"] | None:
    """The two words of one threefry key, or None for a key that only `jax.random` can use."""
    if not hasattr(key, "dtype"):
        return None
    config: Any = jax.config  # Typed as Any, because type checkers do not know these flags of jax.
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    impl = jax.random.key_impl(key) if typed else config.jax_default_prng_impl
    # JAX's checker of reused keys only sees calls of jax.random, so jax.random draws while the checker is on.
    if str(impl) != "threefry2x32" or not config.jax_threefry_partitionable or config.jax_debug_key_reuse:
        return None
    words = jax.random.key_data(key) if typed else key
    return words if words.shape == (2,) and words.dtype == jnp.uint32 else None


def counter(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Array of shape `shape` in which each entry is its own row-major index."""
    # Sums one iota per axis instead of reshaping a flat one, so that every term already has the final shape.
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for number, axis in enumerate(reversed(range(len(shape)))):
        step = lax.broadcasted_iota(jnp.uint32, shape, axis)
        index = index + step * np.uint32(stride) if number else step
        stride *= shape[axis]
    return index

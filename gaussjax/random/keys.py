"""JAX keys: `jax.random`'s numbers in programs that compile in a fraction of the time.

On CPU `jax.random` lowers each use of a threefry key to a while loop with a dozen kernels. Here the
cipher is plain arithmetic, which fuses. Other keys, threefry that is not partitionable, and JAX's
checker of reused keys are left to `jax.random`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, Integer, Key, UInt32

from gaussjax.random.threefry import Operations, threefry2x32


def split(key: Key[Array, ""] | UInt32[Array, "2"], num: int = 2) -> Key[Array, " num"] | UInt32[Array, "num 2"]:
    """The keys of `jax.random.split`.

    Args:
        key: Typed or legacy. It is consumed.
        num: Number of new keys.

    Returns:
        Keys of the same type.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((split(key) == jax.random.split(key)).all())
        True
    """
    words = _words(key)
    if words is None:
        return jax.random.split(key, num)
    return _like(key, _derived(words, _counter((num,))))


def fold_in(key: Key[Array, ""] | UInt32[Array, "2"], data: Any) -> Key[Array, ""] | UInt32[Array, "2"]:
    """The key of `jax.random.fold_in`.

    Args:
        key: Typed or legacy. It is not consumed: fold in another number for another key.
        data: A number from 0 to 2³² - 1.

    Returns:
        A key of the same type.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(fold_in(key, 1) == jax.random.fold_in(key, 1))
        True
    """
    words = _words(key)
    if words is None:
        return jax.random.fold_in(key, data)
    return _like(key, _derived(words, jnp.uint32(data)))


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def bits(key: Key[Array, ""] | UInt32[Array, "2"], shape: tuple[int, ...] = ()) -> UInt32[Array, "..."]:
    """The random words of `jax.random.bits`.

    Args:
        key: Typed or legacy. It is consumed.
        shape: Shape of the result.

    Returns:
        Uniform uint32 numbers.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((bits(key, (3,)) == jax.random.bits(key, (3,))).all())
        True
    """
    drawn = draw(key, shape)
    if drawn is None:
        return jax.random.bits(key, shape, "uint32")
    return once(drawn[0] ^ drawn[1], drawn[1])


@functools.partial(jax.jit, static_argnames="shape", inline=True)
def randint(
    key: Key[Array, ""] | UInt32[Array, "2"],
    shape: tuple[int, ...],
    minval: int | Integer[Array, "..."],
    maxval: int | Integer[Array, "..."],
) -> Int32[Array, "..."]:
    """The int32 numbers of `jax.random.randint`, uniform on [minval, maxval).

    Args:
        key: Typed or legacy. It is consumed.
        shape: Shape of the result.
        minval: Least number, an int32 that broadcasts to the shape.
        maxval: Upper bound, an int32 that broadcasts to the shape.

    Returns:
        Numbers of that shape.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((randint(key, (3,), 0, 10) == jax.random.randint(key, (3,), 0, 10)).all())
        True
    """
    low, high = jnp.asarray(minval, jnp.int32), jnp.asarray(maxval, jnp.int32)
    if _words(key) is None:
        return jax.random.randint(key, shape, low, high, jnp.int32)
    pair = split(key)
    more, less = bits(pair[0], shape), bits(pair[1], shape)
    span = jnp.where(high > low, high - low, 1).astype(jnp.uint32)
    # 64 random bits modulo the span, in arithmetic of 32.
    factor = jnp.uint32(2**16) % span
    factor = (factor * factor) % span
    return low + ((more % span * factor + less % span) % span).astype(jnp.int32)


def draw(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array] | None:
    """Two random words for each place of a shape, or None for a key or a size that is left to JAX."""
    words = _words(key)
    # A dimension that is open in an exported program counts as small.
    if words is None or math.prod(size for size in shape if isinstance(size, int)) >= 2**32:
        return None
    return _hash(words, _counter(tuple(shape)))


# XLA: CPU fusion copies a cheap producer into each of its consumers, so that the noise is compiled and evaluated
# for the actions and again for log_prob (jax 0.10.2). Without this function `act` takes 1.2 to 2.2 times as long at
# 256 to 4096 rows of 3 to 8 actions, and a PPO program 1.3 times as long to compile. Drop it when
# test_xla_copies_a_hash_into_each_consumer fails.
def once(x: Array, random_bits: UInt32[Array, "..."]) -> Array:
    """`x` itself, computed once and stored instead of copied into each consumer.

    XLA never copies a division. The divisor is exactly 1, but it is computed from random bits, so that the
    compiler cannot know that. (`lax.optimization_barrier` is gone before the CPU backend fuses.)
    """
    zero = (random_bits >> np.uint32(31)) >> np.uint32(1)
    return lax.div(x, zero.astype(x.dtype) + np.array(1, x.dtype))


def _is_typed(key: Array) -> bool:
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def _words(key: Any) -> UInt32[Array, "2"] | None:
    """The two words of one threefry key, or None for a key that is left to `jax.random`."""
    if not hasattr(key, "dtype"):
        return None
    config: Any = jax.config  # its flags become attributes at run time
    impl = jax.random.key_impl(key) if _is_typed(key) else config.jax_default_prng_impl
    # The checker of reused keys sees only what jax.random does with a key.
    if str(impl) != "threefry2x32" or not config.jax_threefry_partitionable or config.jax_debug_key_reuse:
        return None
    words = jax.random.key_data(key) if _is_typed(key) else key
    return words if words.shape == (2,) and words.dtype == jnp.uint32 else None


def _like(key: Array, words: UInt32[Array, "... 2"]) -> Array:
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key)) if _is_typed(key) else words


def _counter(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """The row-major index of every element."""
    # One iota per axis instead of a reshaped one: a sum of broadcasts keeps the shape of its consumer.
    index, stride = jnp.zeros(shape, jnp.uint32), 1
    for number, axis in enumerate(reversed(range(len(shape)))):
        step = lax.broadcasted_iota(jnp.uint32, shape, axis)
        index = index + step * np.uint32(stride) if number else step
        stride *= shape[axis]
    return index


def _rotate(x: Array, count: int) -> Array:
    return lax.bitwise_or(lax.shift_left(x, np.uint32(count)), lax.shift_right_logical(x, np.uint32(32 - count)))


# Functions of lax: JAX traces each operator of an array as a function of its own.
_JAX = Operations(lax.add, lax.bitwise_xor, _rotate, np.uint32)


def _hash(words: UInt32[Array, "2"], counters: UInt32[Array, "..."]) -> tuple[Array, Array]:
    first, second = (lax.index_in_dim(words, i, keepdims=False) for i in range(2))
    return threefry2x32(first, second, np.uint32(0), counters, _JAX)


@functools.partial(jax.jit, inline=True)
def _derived(words: UInt32[Array, "2"], counters: UInt32[Array, "..."]) -> UInt32[Array, "... 2"]:
    """The words of one new key per counter."""
    # A choice between the two words, because XLA would copy the hash into each operand of a stack.
    shape = (*counters.shape, 2)
    place = lax.broadcasted_iota(jnp.uint32, shape, counters.ndim)
    first, second = _hash(words, lax.broadcast_in_dim(counters, shape, range(counters.ndim)))
    chosen = lax.select(lax.eq(place, np.uint32(0)), first, second)
    return once(chosen, chosen)

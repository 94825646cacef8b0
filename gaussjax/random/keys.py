"""JAX keys: `jax.random`'s numbers in programs that compile in a fraction of the time.

On CPU `jax.random` lowers each use of a threefry key to a while loop with a dozen kernels. Here the
cipher is plain arithmetic, which fuses. Other keys, threefry that is not partitionable, and JAX's
checker of reused keys are left to `jax.random`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, Integer, Key, UInt32

from gaussjax.random.cipher import counter, draw, hash_words, key_words, once


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
    words = key_words(key)
    if words is None:
        return jax.random.split(key, num)
    return _like(key, _derived(words, counter((num,))))


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
    words = key_words(key)
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
    if key_words(key) is None:
        return jax.random.randint(key, shape, low, high, jnp.int32)
    pair = split(key)
    more, less = bits(pair[0], shape), bits(pair[1], shape)
    span = jnp.where(high > low, high - low, 1).astype(jnp.uint32)
    # 64 random bits modulo the span, in arithmetic of 32.
    factor = jnp.uint32(2**16) % span
    factor = (factor * factor) % span
    return low + ((more % span * factor + less % span) % span).astype(jnp.int32)


def _like(key: Array, words: UInt32[Array, "... 2"]) -> Array:
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(key)) if typed else words


@functools.partial(jax.jit, inline=True)
def _derived(words: UInt32[Array, "2"], counters: UInt32[Array, "..."]) -> UInt32[Array, "... 2"]:
    """The words of one new key per counter."""
    # A choice between the two words, because XLA would copy the hash into each operand of a stack.
    shape = (*counters.shape, 2)
    place = lax.broadcasted_iota(jnp.uint32, shape, counters.ndim)
    first, second = hash_words(words, lax.broadcast_in_dim(counters, shape, range(counters.ndim)))
    chosen = lax.select(lax.eq(place, np.uint32(0)), first, second)
    return once(chosen, chosen)

"""Functions of `jax.random` that compile faster, with the same results, for typed and legacy keys.

On CPU `jax.random` lowers each use of a threefry key to a while loop with a dozen kernels. Here the
cipher is plain arithmetic, which fuses. `jax.random` itself is called for keys of other ciphers,
for threefry that is not partitionable, and while JAX's checker of reused keys is on.
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

OneKey = Key[Array, ""] | UInt32[Array, "2"]
"""One PRNG key, typed or legacy."""


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

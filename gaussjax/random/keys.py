"""Keys that draw `jax.random`'s numbers in programs that compile in a fraction of the time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
from jax import lax

from gaussjax.random.normal import counter, is_ours, is_typed, once, threefry2x32

if TYPE_CHECKING:
    from jaxtyping import Array, Key


def _hash(key: Array, counters: Array) -> tuple[Array, Array]:
    first, second = (lax.index_in_dim(key, i, keepdims=False) for i in range(2))
    return threefry2x32(first, second, np.uint32(0), counters)


def _bits(key: Array, bit_width: int, shape: tuple[int, ...]) -> Array:
    dtype = jnp.dtype(f"uint{bit_width}")
    if not all(isinstance(size, int) for size in shape) or math.prod(shape) >= 2**32:
        return jax.random.bits(jax.random.wrap_key_data(key, impl="threefry2x32"), shape, dtype)
    high, low = _hash(key, counter(shape))
    if bit_width == 64:
        return (high.astype(dtype) << np.uint64(32)) | low.astype(dtype)
    return once(high ^ low, low).astype(dtype)


def _derived(key: Array, counters: Array) -> Array:
    """A key for each counter, `(…, 2)`."""
    # Each word's own hash, and a choice where a stack would be a copy of the hash for each of them.
    shape = (*counters.shape, 2)
    place = lax.broadcasted_iota(jnp.uint32, shape, counters.ndim)
    first, second = _hash(key, lax.broadcast_in_dim(counters, shape, range(counters.ndim)))
    words = lax.select(lax.eq(place, np.uint32(0)), first, second)
    # Of a key that is hashed in each of its consumers the hash would be compiled as often.
    return once(words, words)


_WRITTEN_OUT = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
    split=lambda key, shape: _derived(key, counter(tuple(shape))),
    random_bits=_bits,
    fold_in=lambda key, data: _derived(key, jnp.asarray(data).astype(jnp.uint32)),
    name="threefry2x32_written_out",
    tag="fry_written_out",
)


def written_out(key: Key[Array, "*shape"]) -> Key[Array, "*shape"]:
    """The same key, from which `jax.random` makes the same numbers by plain arithmetic.

    On CPU each split, fold and draw of a threefry key is a while loop with a dozen kernels. Of this
    key they are elementwise operations, which fuse: they compile in a fraction of the time and
    are faster in a loop. Such a key is for use within a program; what leaves it is better left with
    the type of the key that came in, as `split` and `fold_in` do.

    Args:
        key: One or several.

    Returns:
        A typed threefry key as one whose hash is written out, and all else as it came.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(jax.random.bits(written_out(key)) == jax.random.bits(key))
        True
    """
    if not (isinstance(key, jax.Array) and is_typed(key) and is_ours(key)):
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_WRITTEN_OUT)


def split(key: Key[Array, ""], num: int = 2) -> Key[Array, " num"]:
    """`jax.random.split`, written out.

    Args:
        key: Consumed.
        num: How many.

    Returns:
        Keys of the type of the one that came.

    Example:
        >>> key = jax.random.key(0)
        >>> bool((split(key) == jax.random.split(key)).all())
        True
    """
    return _of_type(key, jax.random.split(written_out(key), num))


def fold_in(key: Key[Array, ""], data: Any) -> Key[Array, ""]:
    """`jax.random.fold_in`, written out.

    Args:
        key: Not consumed: fold in another number for another key.
        data: A number from 0 to 2³² - 1.

    Returns:
        A key of the type of the one that came.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(fold_in(key, 1) == jax.random.fold_in(key, 1))
        True
    """
    return _of_type(key, jax.random.fold_in(written_out(key), data))


def _of_type(key: Array, made: Array) -> Array:
    if made.dtype == key.dtype:
        return made
    return jax.random.wrap_key_data(jax.random.key_data(made), impl=jax.random.key_impl(key))

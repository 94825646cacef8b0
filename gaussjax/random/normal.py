"""Standard normal noise: the numbers of `jax.random.normal`, in a program that XLA fuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

if TYPE_CHECKING:
    from jaxtyping import Array

    Word = Array | np.uint32

# Threefry-2x32 (Salmon et al. 2011): the rotations of the two alternating groups of four rounds,
# and the parity constant of the key schedule.
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
# So many numbers are hashed in a loop of their own.
_MANY = 2**15


def _rotate(x: Any, r: int) -> Any:
    return lax.bitwise_or(lax.shift_left(x, np.uint32(r)), lax.shift_right_logical(x, np.uint32(32 - r)))


class Operations(NamedTuple):
    """Arithmetic of 32-bit words in one array library.

    Attributes:
        add: `(words, words) -> words`, wrapping around.
        xor: `(words, words) -> words`.
        rotate: `(words, bits) -> words`, to the left.
        word: Makes a constant.
    """

    add: Callable[[Any, Any], Any]
    xor: Callable[[Any, Any], Any]
    rotate: Callable[[Any, int], Any]
    word: Callable[[int], Any]


def _rounds(x0: Any, x1: Any, rotations: tuple[int, ...], operations: Operations) -> tuple[Any, Any]:
    add, xor, rotate, _ = operations
    for r in rotations:
        x0 = add(x0, x1)
        x1 = xor(x0, rotate(x1, r))
    return x0, x1


# Not the operators of arrays, each of which JAX traces as a function of its own.
_LAX = Operations(lax.add, lax.bitwise_xor, _rotate, np.uint32)
# So that of the five groups of rounds two are traced and lowered; XLA writes the calls out before all else.
_rounds_in_jax = jax.jit(_rounds, static_argnums=(2, 3))


def threefry2x32(k0: Any, k1: Any, x0: Any, x1: Any, operations: Operations = _LAX) -> tuple[Any, Any]:
    """Two counter words hashed with a key, the 20 rounds written out.

    `jax.random` lowers the same hash on CPU to a while loop and a dozen kernels of one number
    each; written out it is elementwise arithmetic that fuses into its consumer. JAX, NumPy and
    torch all run these lines.

    Args:
        k0: First word of the key. All words are of 32 bits, in arithmetic that wraps around.
        k1: Second word of the key.
        x0: First word of the counter.
        x1: Second word of the counter.
        operations: Of the array library, JAX by default.
    """
    add, xor, _, word = operations
    rounds = _rounds_in_jax if operations is _LAX else _rounds
    keys = (k0, k1, xor(xor(k0, k1), word(_PARITY)))
    x0, x1 = add(x0, k0), add(x1, k1)
    for group in range(5):
        x0, x1 = rounds(x0, x1, _ROTATIONS[group % 2], operations)
        x0 = add(x0, keys[(group + 1) % 3])
        x1 = add(x1, add(keys[(group + 2) % 3], word(group + 1)))
    return x0, x1


def counter(shape: tuple[int, ...]) -> Array:
    """The row-major index of every element, as uint32."""
    # One iota an axis, not iota().reshape(): a sum of broadcasts keeps the shape of its consumer.
    index, stride = None, 1
    for axis in reversed(range(len(shape))):
        step = lax.broadcasted_iota(jnp.uint32, shape, axis)
        step = step if stride == 1 else step * np.uint32(stride)
        index = step if index is None else index + step
        stride *= shape[axis]
    return jnp.zeros(shape, jnp.uint32) if index is None else index


def once(x: Array, bits: Word) -> Array:
    """`x` itself, in a form that XLA computes once and stores.

    XLA's CPU fusion copies a cheap producer into each of its consumers: the hash and the
    polynomials of the noise would be compiled and evaluated again for the actions and for their
    log probability. It never copies a division. The divisor is exactly 1, which leaves every bit
    alone, but it is read off random bits, element by element: the compiler cannot know that,
    nor turn the division into a multiplication, as it does when the divisor is a scalar.
    (`lax.optimization_barrier` does not help: it is gone before the CPU backend fuses.)

    Args:
        x: Numbers of any real type.
        bits: 32 of each, known at run time only.
    """
    zero = (bits >> np.uint32(31)) >> np.uint32(1)
    return lax.div(x, zero.astype(x.dtype) + np.array(1, x.dtype))


def is_typed(key: Array) -> bool:
    """Whether a key is one of `jax.random.key`, and not words alone."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


def is_ours(key: Array) -> bool:
    """Whether the hash written out draws from a key what `jax.random` does."""
    config: Any = jax.config  # its flags become attributes at run time
    impl = jax.random.key_impl(key) if is_typed(key) else config.jax_default_prng_impl
    # The checker of reused keys knows a key as used by what jax.random does with it.
    return str(impl) == "threefry2x32" and config.jax_threefry_partitionable and not config.jax_debug_key_reuse


def _key_words(key: Array) -> tuple[Array, Array] | None:
    """The two words of a threefry key, or None when the noise is not ours to make."""
    if not is_ours(key):
        return None
    words = jax.random.key_data(key) if is_typed(key) else key
    if words.shape != (2,) or words.dtype != jnp.uint32:
        return None
    return words[0], words[1]


def standard_normal(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Independent standard normal numbers, `jax.random.normal(key, shape, dtype)` bit for bit.

    Args:
        key: One key, typed or legacy; it is consumed. Where it is no threefry key,
            `jax.random.normal` itself draws.
        shape: Of the noise.
        dtype: A real floating type.

    Returns:
        The noise, of that shape and type.

    Example:
        >>> import jax, numpy as np
        >>> key = jax.random.key(0)
        >>> bool(np.all(standard_normal(key, (3,)) == jax.random.normal(key, (3,))))
        True

    Source:
        Salmon et al. 2011, parallel random numbers: as easy as 1, 2, 3 (the threefry generator).
    """
    shape = tuple(shape)
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    words = _key_words(key)
    # A dimension that is left open, as in an exported program, counts as few.
    known = [size for size in shape if isinstance(size, int)]
    count = math.prod(known)
    if words is None or dtype not in (jnp.float32, jnp.float64) or count >= 2**32:
        return jax.random.normal(key, shape, dtype)
    many = count >= _MANY
    if len(shape) > 1 and len(known) == len(shape) and (many or shape[-1] & (shape[-1] - 1)):
        # XLA finds its way in rows of six by divisions, in rows of eight by shifts, in one row by neither.
        return standard_normal(key, (count,), dtype).reshape(shape)
    high, low = threefry2x32(*words, np.uint32(0), counter(shape))

    # From here on the steps, and their order, are those of jax.random.uniform and normal: random
    # mantissa bits of a float in [1, 2), shifted and scaled to the open interval (-1, 1).
    finfo = jnp.finfo(dtype)
    wide = finfo.bits == 64
    bits = (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64) if wide else high ^ low
    if many and not wide:
        # Hash and polynomials are one long chain a number: in two loops the processor overlaps more numbers.
        # That both the polynomials and the last line take the bits is what keeps the loops apart.
        low = bits = once(bits, low)
    uint, one = bits.dtype.type, np.array(1, dtype)
    bits = (bits >> uint(finfo.bits - finfo.nmant)) | one.view(uint)
    # The least float above -1: erf_inv of -1 is infinite.
    minimum = np.nextafter(-one, np.array(0, dtype), dtype=dtype)
    uniform = (lax.bitcast_convert_type(bits, dtype) - one) * (one - minimum) + minimum
    uniform = lax.max(jnp.full(shape, minimum), uniform)
    return once(lax.erf_inv(uniform) * np.array(np.sqrt(2), dtype), low)

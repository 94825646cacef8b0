"""Standard normal noise with the numbers of `jax.random.normal`, computed in a form that XLA can fuse."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, UInt32

from gaussjax.random import keys


def standard_normal(
    key: Key[Array, ""] | UInt32[Array, "2"], shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Float[Array, "..."]:
    """Returns the same numbers as `jax.random.normal(key, shape, dtype)`, bit for bit; the key is consumed.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(np.all(standard_normal(key, (3,)) == jax.random.normal(key, (3,))))
        True
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    # Draws the noise as one flat row. For rows whose width is not a power of two XLA computes each index by a division.
    # `act` then takes 1.4 times as long at 256 rows of 6 actions and 1.9 times at 4096 (jax 0.10.2, CPU). Drop the
    # flat row when `python -m benchmarks act` shows no difference without it.
    in_one_row = all(isinstance(size, int) for size in shape) and bool(shape) and shape[-1] & (shape[-1] - 1)
    drawn = (math.prod(shape),) if in_one_row else tuple(shape)
    words = keys.draw(key, drawn) if dtype in (jnp.float32, jnp.float64) else None
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
    return keys.once(lax.erf_inv(uniform) * np.array(np.sqrt(2), dtype), low).reshape(shape)

"""JAX's random numbers as tensors: the same key gives the same bits, and so the same actions.

A key is a uint32 tensor with the two words of a JAX key. The functions call those of `gaussjax.random.threefry`.
They run on the key's device, and also under `torch.func.vmap` over keys and under `torch.compile`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from gaussjax.random import threefry
from gaussjax.random.keys import Operations


def key(seed: int) -> torch.Tensor:
    """Returns the key `(2,)` with the words of `jax.random.key(seed)`.

    Args:
        seed: Integer from 0 to 2³² - 1.

    Returns:
        A uint32 tensor `(2,)`.

    Example:
        >>> key(7).tolist()
        [0, 7]
    """
    return torch.from_numpy(threefry.key(seed))


def from_jax(key: Any) -> torch.Tensor:
    """Converts a JAX key to a tensor.

    Args:
        key: Typed or legacy key, or an array of its two words.

    Returns:
        A uint32 tensor `(2,)`.

    Raises:
        TypeError: `key` is not one threefry key.

    Example:
        >>> import jax
        >>> from_jax(jax.random.key(7)).tolist()
        [0, 7]
    """
    found = f"a value of type {type(key).__name__}"
    if hasattr(key, "dtype"):
        found = f"an array of type {key.dtype} and shape {tuple(key.shape)}"
        if str(key.dtype) == "key<fry>" and key.shape == ():
            import jax

            key = jax.random.key_data(key)
    masked = isinstance(key, np.ma.MaskedArray)
    if not masked and str(getattr(key, "dtype", "")) == "uint32" and key.shape == (2,):
        return torch.from_numpy(np.array(key))
    raise TypeError(f"key: expected one threefry key of JAX, got {found}. Make one with jax.random.key(0).")


def split(key: torch.Tensor, num: int = 2) -> torch.Tensor:
    """Returns the keys `(num, 2)` that `jax.random.split` returns.

    Args:
        key: A key `(2,)`, which is consumed.
        num: Number of new keys.

    Returns:
        A uint32 tensor `(num, 2)`.

    Example:
        >>> one, other = split(key(0))
        >>> one.tolist()
        [1797259609, 2579123966]
    """
    return threefry.split(key, num, WORDS)


def fold_in(key: torch.Tensor, data: int) -> torch.Tensor:
    """Returns the key `(2,)` that `jax.random.fold_in` returns.

    Args:
        key: A key `(2,)`, which is not consumed.
        data: Integer from 0 to 2³² - 1; another number gives another key.

    Returns:
        A uint32 tensor `(2,)`.

    Example:
        >>> fold_in(key(0), 1).tolist()
        [928981903, 3453687069]
    """
    return threefry.fold_in(key, data, WORDS)


def bits(key: torch.Tensor, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Draws the uint32 numbers that `jax.random.bits` draws.

    Args:
        key: A key `(2,)`, which is consumed.
        shape: Shape of the result.

    Returns:
        A uint32 tensor.

    Example:
        >>> bits(key(0), (3,)).shape
        torch.Size([3])
    """
    return threefry.bits(key, shape, WORDS)


def uniform(
    key: torch.Tensor,
    shape: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float32,
    minimum: float = 0.0,
    maximum: float = 1.0,
) -> torch.Tensor:
    """Draws the float32 or float64 numbers that `jax.random.uniform` draws.

    Args:
        key: A key `(2,)`, which is consumed.
        shape: Shape of the result.
        dtype: `torch.float32` or `torch.float64`.
        minimum: Lower end of the interval, included.
        maximum: Upper end of the interval, excluded.

    Returns:
        A tensor of this shape and dtype.

    Example:
        >>> uniform(key(0), (2,)).shape
        torch.Size([2])
    """
    return threefry.uniform(key, shape, _name(dtype), minimum, maximum, WORDS)


def normal(key: torch.Tensor, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draws float32 or float64 numbers close to those that `jax.random.normal` draws.

    Args:
        key: A key `(2,)`, which is consumed.
        shape: Shape of the result.
        dtype: `torch.float32` or `torch.float64`.

    Returns:
        A tensor of this shape and dtype.

    Example:
        >>> normal(key(0), (2,))
        tensor([1.6226, 2.0253])
    """
    return threefry.normal(key, shape, _name(dtype), WORDS)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _word(number: int) -> int:
    # torch has no arithmetic on uint32, so the cipher's words are int32 with the same bits.
    return number - 2**32 if number >= 2**31 else number


def _shift(words: torch.Tensor, count: int) -> torch.Tensor:
    return (words >> count) & (2 ** (32 - count) - 1)


def _float64(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    mantissa = ((high.long() & 0xFFFFFFFF) << 20) | _shift(low, 12).long()
    return (mantissa | (0x3FF << 52)).view(torch.float64)


def _check(key: Any, note: str = "") -> None:
    """Raises TypeError, which ends with `note`, unless the argument is one key: the two words of a JAX key."""
    if isinstance(key, torch.Tensor) and key.dtype == torch.uint32 and key.shape == (2,):
        return
    kind = "a tensor" if isinstance(key, torch.Tensor) else "an array"
    got = f"{kind} of type {key.dtype} and shape {tuple(key.shape)}" if hasattr(key, "shape") else repr(key)
    raise TypeError(
        f"key: expected one PRNG key, got {got}. Make one with gaussjax.torch.random.key(0), or from a JAX key with "
        f"gaussjax.torch.random.from_jax; for several keys use torch.func.vmap, and random.split for a new key at "
        f"each call.{note}"
    )


WORDS = threefry.Words(
    library=torch,
    cast=lambda x, dtype: x.to(getattr(torch, dtype)),
    quantile=torch.special.ndtri,
    check=_check,
    read=lambda key: key.view(torch.int32).unsqueeze(-1),
    write=lambda words: words.view(torch.uint32),
    count=lambda number, like: torch.arange(number, dtype=torch.int32, device=like.device),
    operations=Operations(
        operator.add, operator.xor, lambda words, count: (words << count) | _shift(words, 32 - count), _word
    ),
    shift=_shift,
    float32=lambda words: words.view(torch.float32),
    float64=_float64,
)

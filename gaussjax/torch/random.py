"""JAX's random numbers on tensors: the same key gives the same bits, and so the same actions.

A key is a uint32 tensor of two words, that of `jax.random.key_data`. It is explicit and consumed, as in
JAX. All functions run on the device of the key, and under `torch.func.vmap` over keys.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from gaussjax.random import threefry
from gaussjax.random.inverse_error import Numbers
from gaussjax.random.normal import Operations


def key(seed: int) -> torch.Tensor:
    """The key of `jax.random.key(seed)`; see `gaussjax.random.threefry.key`.

    Args:
        seed: From 0 to 2³² - 1.

    Returns:
        A uint32 tensor `(2,)`.

    Example:
        >>> normal(key(0), (2,))
        tensor([1.6226, 2.0253])
    """
    return torch.from_numpy(threefry.key(seed))


def from_jax(key: Any) -> torch.Tensor:
    """A JAX key as a tensor.

    Args:
        key: Typed or legacy, or an array of its two words.

    Returns:
        A uint32 tensor `(2,)`.

    Example:
        >>> import jax
        >>> from_jax(jax.random.key(7)).tolist()
        [0, 7]
    """
    if hasattr(key, "dtype") and "key<" in str(key.dtype):
        import jax

        key = jax.random.key_data(key)
    return torch.from_numpy(np.array(key, np.uint32))


def split(key: torch.Tensor, num: int = 2) -> torch.Tensor:
    """The keys that `jax.random.split` makes.

    Args:
        key: Consumed.
        num: How many.

    Returns:
        A uint32 tensor `(num, 2)`.

    Example:
        >>> one, other = split(key(0))
        >>> one.tolist()
        [1797259609, 2579123966]
    """
    return threefry.split(key, num, WORDS)


def fold_in(key: torch.Tensor, data: int) -> torch.Tensor:
    """The key that `jax.random.fold_in` makes of a key and a number.

    Args:
        key: Not consumed: fold in another number for another key.
        data: From 0 to 2³² - 1.

    Returns:
        A uint32 tensor `(2,)`.

    Example:
        >>> fold_in(key(0), 1).shape
        torch.Size([2])
    """
    return threefry.fold_in(key, data, WORDS)


def bits(key: torch.Tensor, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Random uint32 numbers, those of `jax.random.bits`.

    Args:
        key: Consumed.
        shape: Of the result.

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
    """Uniform numbers from [minimum, maximum), those of `jax.random.uniform`.

    Args:
        key: Consumed.
        shape: Of the result.
        dtype: torch.float32 or torch.float64.
        minimum: The least of them.
        maximum: Above all of them.

    Returns:
        A tensor of that shape and type.

    Example:
        >>> uniform(key(0), (2,)).shape
        torch.Size([2])
    """
    return threefry.uniform(key, shape, _name(dtype), minimum, maximum, WORDS)


def normal(key: torch.Tensor, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Standard normal numbers, those of `jax.random.normal` on a CPU; see `gaussjax.random.threefry.normal`.

    Args:
        key: Consumed.
        shape: Of the result.
        dtype: torch.float32 or torch.float64.

    Returns:
        A tensor of that shape and type.

    Example:
        >>> normal(key(0), (2,))
        tensor([1.6226, 2.0253])
    """
    return threefry.normal(key, shape, _name(dtype), WORDS)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _word(number: int) -> int:
    # int32 holds the words, since torch has no arithmetic on uint32: the sign is the highest bit.
    return number - 2**32 if number >= 2**31 else number


def _shift(words: torch.Tensor, count: int) -> torch.Tensor:
    return (words >> count) & (2 ** (32 - count) - 1)


def _float64(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    mantissa = ((high.long() & 0xFFFFFFFF) << 20) | _shift(low, 12).long()
    return (mantissa | (0x3FF << 52)).view(torch.float64)


WORDS = threefry.Words(
    # xlogy(1, x) is log(x), by the C library where torch's vectorised log(x) is another one.
    numbers=Numbers(torch, lambda x, dtype: x.to(getattr(torch, dtype)), lambda x: torch.special.xlogy(1.0, x)),
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

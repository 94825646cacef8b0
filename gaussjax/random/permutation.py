"""The order in which samples are learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from gaussjax.random.keys import written_out

if TYPE_CHECKING:
    from jaxtyping import Array, Int, UInt32

# Fewer than these are sorted, which takes no longer; and of few numbers a cipher cannot make every order.
_FEW = 512
# Of the cipher; NIST's FF1, which enciphers small domains too, has ten.
_ROUNDS = 12


def permutation(key: Array, count: int) -> Int[Array, " count"]:
    """The numbers below `count` in random order. The key is consumed.

    `jax.random.permutation` sorts, and on CPU a sort was a tenth of PPO's update. Here each number is enciphered:
    a Feistel network maps the numbers of so many bits onto themselves, another way with each key, in arithmetic
    that has no order to keep. A number that comes out too large is enciphered again until it does not.

    Args:
        key: A JAX key.
        count: How many, below 2³¹.

    Returns:
        Each number from 0 to count - 1 once.

    Example:
        >>> sorted(permutation(jax.random.key(0), 5).tolist())
        [0, 1, 2, 3, 4]

    Source:
        Luby and Rackoff 1988, how to construct pseudorandom permutations from pseudorandom functions; Black and
        Rogaway 2002, ciphers with arbitrary finite domains (the walk back into the range).
    """
    if count < _FEW:
        return jnp.argsort(jax.random.bits(written_out(key), (count,))).astype(jnp.int32)
    width = (count - 1).bit_length()
    round_keys = jax.random.bits(written_out(key), (_ROUNDS,))
    found = _enciphered(jnp.arange(count, dtype=jnp.uint32), round_keys, width)
    if count != 1 << width:
        found = jax.lax.while_loop(
            lambda found: jnp.any(found >= count),
            lambda found: jnp.where(found >= count, _enciphered(found, round_keys, width), found),
            found,
        )
    return found.astype(jnp.int32)


def _enciphered(numbers: UInt32[Array, " n"], round_keys: UInt32[Array, " rounds"], width: int) -> Array:
    """The numbers below 2ʷⁱᵈᵗʰ, one onto one: each half is mixed into the other by turns."""
    split = width // 2
    low_bits, high_bits = (jnp.uint32((1 << bits) - 1) for bits in (split, width - split))
    low, high = numbers & low_bits, numbers >> split

    def rounds(halves: tuple[Array, Array], keys: UInt32[Array, "2"]) -> tuple[tuple[Array, Array], None]:
        high, low = halves
        high = high ^ (_mixed(low + keys[0]) & high_bits)
        low = low ^ (_mixed(high + keys[1]) & low_bits)
        return (high, low), None

    # A loop, so that two rounds are traced and compiled and not all.
    (high, low), _ = jax.lax.scan(rounds, (high, low), round_keys.reshape(-1, 2))
    return (high << split) | low


def _mixed(x: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """Each bit of the result depends on every bit of `x` (the finaliser of Appleby's MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)

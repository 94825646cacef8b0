"""The order in which samples are learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Int


def permutation(key: Array, count: int) -> Int[Array, " count"]:
    """The numbers below `count` in random order, by one sort. The key is consumed.

    `jax.random.permutation` sorts twice or more, lest two of its 32-bit draws be equal; here such a
    pair, one in 2³² of them, keeps its order. A fifth of the time of PPO's update on CPU with a few
    thousand samples was that.

    Args:
        key: A JAX key.
        count: How many.

    Returns:
        Each number from 0 to count - 1 once.

    Example:
        >>> sorted(permutation(jax.random.key(0), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    return jnp.argsort(jax.random.bits(key, (count,)))

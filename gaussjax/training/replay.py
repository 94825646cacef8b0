"""A replay buffer on the device; once it is full, new rows overwrite the oldest."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from gaussjax.core.compiled import refuse_huge
from gaussjax.random import keys


class Buffer(NamedTuple):
    """A replay buffer.

    Attributes:
        rows: Pytree of leaves `(capacity, …)`.
        added: Number of rows added so far, int32. Once the buffer is full, a multiple of the capacity is left out, so
            that the number stays from capacity to 2·capacity - 1 and never overflows.
    """

    rows: Any
    added: Int[Array, ""]


def init(row: Any, capacity: int) -> Buffer:
    """An empty buffer of at most 2³⁰ rows; `row` is an example with the shapes and dtypes of the rows to come.

    Example:
        >>> buffer = init({"reward": jnp.zeros(())}, capacity=3)
        >>> buffer.rows["reward"].shape
        (3,)
    """
    if not 1 <= capacity <= 2**30:
        raise ValueError(f"capacity: expected from 1 to 2**30 rows, got {capacity}.")
    for leaf in jax.tree.leaves(row):
        refuse_huge((capacity, *jnp.shape(leaf)), "buffer")
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), leaf.dtype), row)
    return Buffer(rows, jnp.zeros((), jnp.int32))


def capacity(buffer: Buffer) -> int:
    """Largest number of rows that the buffer can hold, static under `jit`."""
    return jax.tree.leaves(buffer.rows)[0].shape[0]


def size(buffer: Buffer) -> Int[Array, ""]:
    """Number of rows that the buffer holds now, an int32 scalar."""
    return jnp.minimum(buffer.added, capacity(buffer))


def add(buffer: Buffer, rows: Any) -> tuple[Buffer, Int[Array, ""]]:
    """Adds rows, a pytree of leaves `(n, …)`; returns the new buffer and the number of refused rows.

    A row with NaN or infinity is refused, since every minibatch that contains it would have a loss of NaN.

    Example:
        >>> buffer = init(jnp.zeros((), jnp.float32), capacity=3)
        >>> buffer, refused = add(buffer, jnp.array([1.0, jnp.nan, 2.0]))
        >>> buffer.rows, int(refused)
        (Array([1., 2., 0.], dtype=float32), 1)
    """
    usable = _finite(rows)
    ahead = jnp.cumsum(usable.astype(jnp.int32))
    # A refused row gets an index beyond the end, which the scatter drops.
    room = capacity(buffer)
    following = buffer.added % room + ahead
    places = jnp.where(usable, (following - 1) % room, room)
    stored = jax.tree.map(lambda old, new: old.at[places].set(new.astype(old.dtype), mode="drop"), buffer.rows, rows)
    full = (buffer.added >= room) | (following[-1] >= room)
    added = jnp.where(full, room + following[-1] % room, following[-1])
    return Buffer(stored, added), usable.size - ahead[-1]


def sample(buffer: Buffer, key: Array, count: int) -> Any:
    """Draws `count` rows uniformly with replacement, as leaves `(count, …)`; consumes the key."""
    places = keys.randint(key, (count,), 0, size(buffer))
    return jax.tree.map(lambda leaf: leaf[places], buffer.rows)


def filled(buffer: Buffer) -> Buffer:
    """The buffer without its empty rows, as NumPy arrays for a checkpoint."""
    count = int(size(buffer))
    return Buffer(jax.tree.map(lambda leaf: np.asarray(leaf)[:count], buffer.rows), buffer.added)


def _finite(rows: Any) -> Bool[Array, " n"]:
    """One flag for each row: True if the row contains no NaN and no infinity."""
    usable = jnp.ones(jax.tree.leaves(rows)[0].shape[0], bool)
    for leaf in jax.tree.leaves(rows):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            usable &= jnp.all(jnp.isfinite(leaf.reshape(usable.size, -1)), axis=1)
    return usable

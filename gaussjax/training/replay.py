"""A replay buffer that lives on the device: arrays of fixed size, filled round and round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Int


class Buffer(NamedTuple):
    """Transitions, the oldest of which are overwritten.

    Attributes:
        rows: Any pytree; each leaf `(capacity, …)`.
        added: How many rows were ever added.
    """

    rows: Any
    added: Int[Array, ""]


def init(row: Any, capacity: int) -> Buffer:
    """An empty buffer for rows of that form.

    Args:
        row: One row, or its shapes and types.
        capacity: How many fit.
    """
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), leaf.dtype), row)
    return Buffer(rows, jnp.zeros((), jnp.int32))


def capacity(buffer: Buffer) -> int:
    """How many rows fit."""
    return jax.tree.leaves(buffer.rows)[0].shape[0]


def size(buffer: Buffer) -> Int[Array, ""]:
    """How many rows it holds."""
    return jnp.minimum(buffer.added, capacity(buffer))


def add(buffer: Buffer, rows: Any) -> Buffer:
    """The buffer with rows added, each leaf `(n, …)`; the oldest go first.

    Example:
        >>> buffer = init(jnp.zeros((), jnp.float32), capacity=3)
        >>> add(buffer, jnp.array([1.0, 2.0, 3.0, 4.0])[:2]).rows
        Array([1., 2., 0.], dtype=float32)
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    places = (buffer.added + jnp.arange(count)) % capacity(buffer)
    stored = jax.tree.map(lambda old, new: old.at[places].set(new), buffer.rows, rows)
    return Buffer(stored, buffer.added + count)


def sample(buffer: Buffer, key: Array, count: int) -> Any:
    """Rows drawn uniformly, with replacement, from those the buffer holds. The key is consumed.

    The buffer must hold at least one row.
    """
    places = jax.random.randint(key, (count,), 0, size(buffer))
    return jax.tree.map(lambda leaf: leaf[places], buffer.rows)

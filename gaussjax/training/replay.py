"""A replay buffer that lives on the device: arrays of fixed size, filled round and round."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.random import keys

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int


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

    Returns:
        A buffer of zeros.

    Example:
        >>> buffer = init({"reward": jnp.zeros(())}, capacity=3)
        >>> buffer.rows["reward"].shape
        (3,)
    """
    rows = jax.tree.map(lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), leaf.dtype), row)
    return Buffer(rows, jnp.zeros((), jnp.int32))


def capacity(buffer: Buffer) -> int:
    """How many rows fit.

    Args:
        buffer: From `init`.

    Returns:
        A number known while a program is traced.

    Example:
        >>> capacity(init(jnp.zeros(()), 3))
        3
    """
    return jax.tree.leaves(buffer.rows)[0].shape[0]


def size(buffer: Buffer) -> Int[Array, ""]:
    """How many rows it holds.

    Args:
        buffer: From `init` or `add`.

    Returns:
        An int32 scalar.

    Example:
        >>> int(size(init(jnp.zeros(()), 3)))
        0
    """
    return jnp.minimum(buffer.added, capacity(buffer))


def add(buffer: Buffer, rows: Any) -> tuple[Buffer, Int[Array, ""]]:
    """The buffer with rows added, each leaf `(n, …)`; the oldest go first.

    A row that holds NaN or infinity is left out: each minibatch that met it would be lost, and with
    a large buffer it would stay for the whole training.

    Args:
        buffer: From `init` or `add`.
        rows: New ones.

    Returns:
        The buffer, and how many rows were left out.

    Example:
        >>> buffer = init(jnp.zeros((), jnp.float32), capacity=3)
        >>> buffer, refused = add(buffer, jnp.array([1.0, jnp.nan, 2.0]))
        >>> buffer.rows, int(refused)
        (Array([1., 2., 0.], dtype=float32), 1)
    """
    usable = _finite(rows)
    ahead = jnp.cumsum(usable.astype(jnp.int32))
    # A place past the end is written nowhere.
    places = jnp.where(usable, (buffer.added + ahead - 1) % capacity(buffer), capacity(buffer))
    stored = jax.tree.map(lambda old, new: old.at[places].set(new, mode="drop"), buffer.rows, rows)
    return Buffer(stored, buffer.added + ahead[-1]), usable.size - ahead[-1]


def sample(buffer: Buffer, key: Array, count: int) -> Any:
    """Rows drawn uniformly, with replacement, from those the buffer holds.

    Args:
        buffer: With at least one row.
        key: Consumed.
        count: How many.

    Returns:
        Rows, each leaf `(count, …)`.

    Example:
        >>> buffer, _ = add(init(jnp.zeros(()), 3), jnp.ones(2))
        >>> sample(buffer, jax.random.key(0), 4).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    places = keys.randint(key, (count,), 0, size(buffer))
    return jax.tree.map(lambda leaf: leaf[places], buffer.rows)


def filled(buffer: Buffer) -> Buffer:
    """The same on the host, without the places that were never written.

    Args:
        buffer: From `init` or `add`.

    Returns:
        A buffer of NumPy arrays.

    Example:
        >>> buffer, _ = add(init(jnp.zeros(()), 3), jnp.ones(2))
        >>> filled(buffer).rows.shape
        (2,)
    """
    count = int(size(buffer))
    return Buffer(jax.tree.map(lambda leaf: np.asarray(leaf)[:count], buffer.rows), buffer.added)


def _finite(rows: Any) -> Bool[Array, " n"]:
    """Which rows hold numbers only."""
    leaves = [leaf for leaf in jax.tree.leaves(rows) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    count = jax.tree.leaves(rows)[0].shape[0]
    flat = [jnp.all(jnp.isfinite(leaf.reshape(count, -1)), axis=1) for leaf in leaves]
    return functools.reduce(jnp.logical_and, flat, jnp.ones(count, bool))

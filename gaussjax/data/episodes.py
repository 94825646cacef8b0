"""The record of recorded experience that every reader fills and every learner takes, and arrays of rows on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

# Datasets up to this number of bytes are read into memory at once.
IN_MEMORY = 2**28
_CHUNK = 2**24
# Names of each field in Minari, D4RL, robomimic and our own files.
NAMES = {
    "observations": ("observations", "obs"),
    "actions": ("actions",),
    "starts": ("starts",),
    "rewards": ("rewards",),
    "terminated": ("terminated", "terminations", "terminals", "dones"),
    "truncated": ("truncated", "truncations", "timeouts"),
    "weights": ("weights",),
}
FIELDS = {name for names in NAMES.values() for name in names}


class Episodes(NamedTuple):
    """Episodes one after the other, with one row for each step.

    A leaf is a NumPy array, a memory map of a file, or another array of rows that is read by slices.

    Attributes:
        observations: Observation before each action: an array `(T, ...)`, or a pytree of them for Dict and Tuple
            spaces, in the dtypes of the space.
        actions: Actions in units of the Box, `(T, ...)`.
        starts: True in the first row of each episode, `(T,)`; None where the source does not tell.
        rewards: Reward of each action, `(T,)`, or None.
        terminated: True in a last row after which the environment ended, `(T,)`, or None.
        truncated: True in a last row after which the recording or a time limit ended, `(T,)`, or None.
        weights: Weight of each row in a loss, `(T,)`, or None for equal weights.
    """

    observations: Any
    actions: Any
    starts: Bool[Any, " steps"] | None = None
    rewards: Float[Any, " steps"] | None = None
    terminated: Bool[Any, " steps"] | None = None
    truncated: Bool[Any, " steps"] | None = None
    weights: Float[Any, " steps"] | None = None


class Rows:
    """An array on disk that is read by slices of its first axis.

    Args:
        shape: Shape of the whole array.
        dtype: Dtype of the slices.
        read: `(start, stop) -> rows` for a slice that is not empty.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, read: Callable[[int, int], np.ndarray]):
        self.shape, self.dtype, self._read = tuple(shape), np.dtype(dtype), read
        self.ndim, self.nbytes = len(self.shape), math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> np.ndarray:
        if not isinstance(index, slice):
            raise TypeError(f"rows: expected a slice such as [0:100], got {index!r}. Rows on disk are read in order.")
        start, stop, step = index.indices(len(self))
        if step < 1:
            raise ValueError(f"rows: expected a slice that goes forward, got {index}. Reverse the rows that it reads.")
        rows = self._read(start, stop) if start < stop else np.empty((0, *self.shape[1:]), self.dtype)
        return rows[::step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def is_on_disk(leaf: Any) -> bool:
    """True for an array that should be read by slices: `Rows`, a memory map, or a dataset of h5py."""
    return isinstance(leaf, (Rows, np.memmap)) or hasattr(leaf, "read_direct")


def joined(parts: Sequence[Any], lengths: Sequence[int]) -> Any:
    """The first `lengths[i]` rows of each part, one part after the other; on disk if the parts are."""
    if not any(map(is_on_disk, parts)):
        whole = [part[:length] for part, length in zip(parts, lengths, strict=True)]
        return whole[0] if len(whole) == 1 else np.concatenate(whole)
    ends = np.cumsum(lengths)

    def read(start: int, stop: int) -> np.ndarray:
        blocks = []
        for i in range(int(np.searchsorted(ends, start, "right")), len(parts)):
            offset = int(ends[i]) - lengths[i]
            if offset >= stop:
                break
            blocks.append(parts[i][max(start - offset, 0) : min(stop - offset, lengths[i])])
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)

    return Rows((int(ends[-1]), *parts[0].shape[1:]), np.result_type(*(part.dtype for part in parts)), read)


def chunks(leaf: Any) -> Iterator[slice]:
    """Slices that cover the rows of an array, each of some megabytes."""
    size = max(1, _CHUNK // max(1, math.prod(leaf.shape[1:]) * leaf.dtype.itemsize))
    return (slice(start, min(start + size, len(leaf))) for start in range(0, len(leaf), size))


def rows(episodes: Episodes, index: slice) -> Episodes:
    """The rows of a slice, with all leaves in memory.

    Args:
        episodes: Episodes in memory or on disk.
        index: Slice of the rows, such as `slice(0, 1000)`.

    Returns:
        Episodes whose leaves are NumPy arrays; a leaf in memory gives a view.

    Raises:
        TypeError: The index is not a slice.
        ValueError: A row on disk is NaN, infinite or outside its space. Rows in memory are checked when they are read
            from a source.

    Example:
        >>> episodes = Episodes(np.zeros((5, 2), np.float32), np.zeros((5, 1), np.float32))
        >>> rows(episodes, slice(1, 3)).observations.shape
        (2, 2)
    """
    if not isinstance(index, slice):
        raise TypeError(f"index: expected a slice of the rows, got {index!r}. Write slice(3, 4) for row 3.")

    def read(leaf: Any) -> np.ndarray:
        return np.array(leaf[index]) if isinstance(leaf, np.memmap) else np.asarray(leaf[index])

    return jax.tree.map(read, episodes)

"""Observation and action spaces as frozen classes that can be hashed, compared and written into a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaussjax.core.arrays import fill


@dataclass(frozen=True)
class Box:
    """Space of real vectors, images or other arrays with a lower and an upper bound for every entry.

    The constructor takes its arguments in Gymnasium's order and converts bounds to plain numbers.

    Attributes:
        low: Lower bounds in row-major order, or one number for all entries; -inf for no bound.
        high: Upper bounds in the same form; inf for no bound.
        shape: Shape of one element. By default the common shape of the bounds, or (1,) for two numbers.
        dtype: NumPy name of the dtype of one element.

    Example:
        >>> size(Box(-1.0, 1.0, (3,)))
        3
    """

    low: Any = -math.inf
    high: Any = math.inf
    shape: Any = None
    dtype: Any = "float32"

    def __post_init__(self) -> None:
        shape = self.shape
        if shape is None and np.shape(self.low) == np.shape(self.high):
            shape = np.shape(self.low) or (1,)
        if np.ndim(shape) != 1 or not all(isinstance(n, (int, np.integer)) for n in shape):  # type: ignore[union-attr]
            raise TypeError(
                f"shape: expected a tuple of sizes, got {shape!r} in Box({self.low!r}, {self.high!r}, {shape!r}). The "
                f"arguments have Gymnasium's order: Box(low, high, shape), such as Box(-1.0, 1.0, (3,))."
            )
        shape = tuple(int(n) for n in shape)  # type: ignore[union-attr]
        if any(n < 0 for n in shape):
            raise ValueError(f"space: expected sizes of zero or more, got the shape {shape}.")
        low, high = _compact(self.low, shape, "low"), _compact(self.high, shape, "high")
        fill(self, low=low, high=high, shape=shape, dtype=np.dtype(self.dtype).name)
        # Scalar bounds are compared without a broadcast, because a huge shape from a file must not allocate memory.
        lowest, highest = np.atleast_1d(low), np.atleast_1d(high)
        crossed = np.flatnonzero(~(lowest <= highest))
        if crossed.size:
            low, high = (np.broadcast_to(side, max(lowest.size, highest.size))[crossed] for side in (lowest, highest))
            raise ValueError(
                f"space: expected low <= high, got low {low} and high {high} in the dimensions {crossed.tolist()} of "
                f"{self}."
            )


@dataclass(frozen=True)
class Discrete:
    """Space of the integers from start to start + n - 1; an element is one-hot when flattened.

    Attributes:
        n: Number of values.
        start: Lowest value.

    Example:
        >>> size(Discrete(4))
        4
    """

    n: int
    start: int = 0


@dataclass(frozen=True)
class MultiDiscrete:
    """Space of vectors of integers that start at 0; each integer is one-hot when flattened.

    Attributes:
        nvec: Number of values of each integer.

    Example:
        >>> size(MultiDiscrete((3, 2)))
        5
    """

    nvec: tuple[int, ...]


@dataclass(frozen=True)
class Dict:
    """Space of dicts: named spaces, in the order in which their elements are flattened.

    Attributes:
        items: Pairs of a name and a space.

    Example:
        >>> size(Dict((("image", Box(shape=(2, 2))), ("speed", Box(shape=(1,))))))
        5
    """

    items: tuple[tuple[str, Space], ...]


@dataclass(frozen=True)
class Tuple:
    """Space of tuples: a sequence of spaces.

    Attributes:
        items: Spaces of the entries of a tuple.

    Example:
        >>> size(Tuple((Box(shape=(2,)), Discrete(3))))
        5
    """

    items: tuple[Space, ...]


Space = Box | Discrete | MultiDiscrete | Dict | Tuple


def size(space: Space) -> int:
    """Length of the flat vector to which `flatten` converts one element of a space.

    Args:
        space: A gaussjax space.

    Returns:
        Size of the last axis of the result of `flatten`.

    Example:
        >>> size(Tuple((Discrete(4), Box(shape=(2, 3)))))
        10
    """
    match space:
        case Box():
            return math.prod(space.shape)
        case Discrete():
            return space.n
        case MultiDiscrete():
            return sum(space.nvec)
        case Dict():
            return sum(size(inner) for _, inner in space.items)
        case Tuple():
            return sum(size(inner) for inner in space.items)


def bounds(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of a Box as flat vectors.

    Args:
        box: A Box of any shape.

    Returns:
        Two float64 arrays `(size(box),)` in row-major order, with inf and -inf for no bound.

    Example:
        >>> bounds(Box(-1.0, (1.0, 3.0), (2,)))
        (array([-1., -1.]), array([1., 3.]))
    """
    low, high = (np.broadcast_to(np.asarray(side, np.float64), size(box)) for side in (box.low, box.high))
    return low, high


def _compact(bound: Any, shape: tuple[int, ...], name: str) -> float | tuple[float, ...]:
    """Converts a bound to one number if all entries are equal, otherwise to a tuple of numbers."""
    values = np.asarray(bound, np.float64)
    if values.ndim and values.shape not in (shape, (math.prod(shape),)):
        raise ValueError(f"space: expected {name} as one number or of shape {shape}, got shape {values.shape}.")
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    return tuple(float(value) for value in values.flat)

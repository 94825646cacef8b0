"""Observation and action spaces as frozen, hashable classes, and their conversion from Gymnasium's spaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def as_space(space: Any) -> Space:
    """Converts a Gymnasium space, a vector length or a shape to a gaussjax space.

    Args:
        space: A Gymnasium or gaussjax space, the length of an unbounded vector, or the shape of an unbounded array.

    Returns:
        A frozen, hashable space.

    Raises:
        TypeError: The kind of the space is not supported.
        ValueError: A size is negative, or the bounds cross.

    Example:
        >>> as_space(3)
        Box(low=-inf, high=inf, shape=(3,), dtype='float32')
    """
    match space:
        case Box() | Discrete() | MultiDiscrete():
            return space
        case Dict():
            return Dict(tuple((name, as_space(inner)) for name, inner in space.items))
        case Tuple():
            return Tuple(tuple(as_space(inner) for inner in space.items))
        case int() | np.integer() if not isinstance(space, bool):
            return Box(shape=(space,))
        case tuple() | list() if all(isinstance(n, (int, np.integer)) for n in space):
            return Box(shape=tuple(space))
    # Gymnasium's spaces are recognised by their attributes, without importing gymnasium.
    if hasattr(space, "low") and hasattr(space, "high"):
        return Box(space.low, space.high, space.shape, space.dtype)
    if hasattr(space, "nvec"):
        if np.any(getattr(space, "start", 0)) or np.ndim(space.nvec) != 1:
            raise TypeError(
                f"space: expected a MultiDiscrete that starts at 0 and has one axis, got {space}. "
                f"Wrap the environment so that it has both."
            )
        return MultiDiscrete(tuple(int(n) for n in space.nvec))
    if hasattr(space, "n") and hasattr(space, "start"):
        return Discrete(int(space.n), int(space.start))
    inner_spaces = getattr(space, "spaces", None)
    if isinstance(inner_spaces, Mapping):
        return Dict(tuple((name, as_space(inner)) for name, inner in inner_spaces.items()))
    if isinstance(inner_spaces, tuple):
        return Tuple(tuple(as_space(inner) for inner in inner_spaces))
    raise TypeError(
        f"space: expected a Box, Discrete, MultiDiscrete, Dict or Tuple, an int or a shape, got "
        f"{space!r}. Wrap the environment so that its space is one of these."
    )


def action_box(space: Any) -> Box:
    """Converts a continuous action space to a gaussjax Box.

    Args:
        space: Action space in any form that `as_space` converts.

    Returns:
        A Box with at least one dimension.

    Raises:
        TypeError: The space is not a Box, so a Gaussian has no density on it.
        ValueError: The Box has no dimension.

    Example:
        >>> action_box(Box(-1.0, 1.0, (2,))).high
        1.0
    """
    box = as_space(space)
    if not isinstance(box, Box):
        raise TypeError(
            f"action_space: expected a Box, got {space}. A Gaussian policy acts on real vectors; "
            f"use a categorical policy for discrete actions."
        )
    if not box.shape or 0 in box.shape:
        raise ValueError(
            f"action_space: expected a Box with at least one dimension, got {space} of shape "
            f"{box.shape}. Give one action the shape (1,)."
        )
    return box


def _compact(bound: Any, shape: tuple[int, ...], name: str) -> float | tuple[float, ...]:
    """Converts a bound to one number if all entries are equal, otherwise to a tuple of numbers."""
    values = np.asarray(bound, np.float64)
    if values.ndim and values.shape not in (shape, (math.prod(shape),)):
        raise ValueError(f"space: expected {name} as one number or of shape {shape}, got shape {values.shape}.")
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    return tuple(float(value) for value in values.flat)

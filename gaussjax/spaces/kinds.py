"""The kinds of space, as small frozen classes that can be hashed, compared and written into a file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """Real vectors, images and other arrays with a bound on every entry.

    Attributes:
        shape: Shape of one element.
        low: Lower bounds in row-major order, or one number for all. -inf is open.
        high: Upper bounds likewise. inf is open.
        dtype: NumPy name of the element type.

    Example:
        >>> space = Box((3,), low=-1.0, high=1.0)
        >>> size(space)
        3
    """

    shape: tuple[int, ...]
    low: float | tuple[float, ...] = -math.inf
    high: float | tuple[float, ...] = math.inf
    dtype: str = "float32"


@dataclass(frozen=True)
class Discrete:
    """The integers start, start + 1, …, start + n - 1; one-hot when flattened.

    Attributes:
        n: How many there are.
        start: The first one.

    Example:
        >>> size(Discrete(4))
        4
    """

    n: int
    start: int = 0


@dataclass(frozen=True)
class MultiDiscrete:
    """Several integers at once, each from 0; one-hot each when flattened.

    Attributes:
        nvec: How many values each has.

    Example:
        >>> size(MultiDiscrete((3, 2)))
        5
    """

    nvec: tuple[int, ...]


@dataclass(frozen=True)
class Dict:
    """Named spaces, in the order in which they are flattened.

    Attributes:
        items: Pairs of a name and a space.

    Example:
        >>> size(Dict((("image", Box((2, 2))), ("speed", Box((1,))))))
        5
    """

    items: tuple[tuple[str, Space], ...]


@dataclass(frozen=True)
class Tuple:
    """Spaces in a row.

    Attributes:
        items: The spaces.

    Example:
        >>> size(Tuple((Box((2,)), Discrete(3))))
        5
    """

    items: tuple[Space, ...]


Space = Box | Discrete | MultiDiscrete | Dict | Tuple


def size(space: Space) -> int:
    """Length of the flat vector of one element.

    Args:
        space: Of this module.

    Returns:
        How many numbers one element has when it is flattened.

    Example:
        >>> size(Tuple((Discrete(4), Box((2, 3)))))
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
    """Lower and upper bounds of a Box as flat vectors, infinite where it is open.

    Args:
        box: Of any shape.

    Returns:
        Two float64 arrays `(size(box),)` in row-major order.

    Example:
        >>> bounds(Box((2,), low=-1.0, high=(1.0, 3.0)))
        (array([-1., -1.]), array([1., 3.]))
    """
    count = size(box)
    low = np.broadcast_to(np.asarray(box.low, np.float64), count)
    high = np.broadcast_to(np.asarray(box.high, np.float64), count)
    return low, high

"""Observation and action spaces as frozen, hashable classes, and their conversion from Gymnasium's spaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaussjax.core.arrays import fill
from gaussjax.core.compiled import FLOATING, count, integer, refuse_traced
from gaussjax.core.text import quoted


@dataclass(frozen=True)
class Box:
    """Space of real vectors, images or other arrays with a lower and an upper bound for every entry.

    The constructor takes its arguments in Gymnasium's order and converts bounds to plain numbers.

    Attributes:
        low: Lower bounds in row-major order, or one number for all entries; -inf for no bound.
        high: Upper bounds in the same form; inf for no bound.
        shape: Shape of one element. By default the common shape of the bounds, or (1,) for two numbers.
        dtype: NumPy name of the dtype of one element.

    Raises:
        TypeError: The shape is not a tuple of sizes, or a bound or the dtype is not of real numbers.
        ValueError: A bound has another shape or is no number of an integer dtype, or the bounds cross.

    Example:
        >>> from gaussjax.spaces import size
        >>> size(Box(-1.0, 1.0, (3,)))
        3
    """

    low: Any = -math.inf
    high: Any = math.inf
    shape: Any = None
    dtype: Any = "float32"

    def __post_init__(self) -> None:
        shape = self.shape
        for name in ("low", "high", "shape"):
            refuse_traced(getattr(self, name), name, "Box")
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
        fill(self, low=low, high=high, shape=shape, dtype=_real(self.dtype))
        # Scalar bounds are compared without a broadcast, because a huge shape from a file must not allocate memory.
        lowest, highest = np.atleast_1d(low), np.atleast_1d(high)
        crossed = np.flatnonzero(~((lowest <= highest) & (lowest < math.inf) & (highest > -math.inf)))
        if crossed.size:
            low, high = (np.broadcast_to(side, max(lowest.size, highest.size))[crossed] for side in (lowest, highest))
            raise ValueError(
                f"space: expected low <= high, got low {low} and high {high} in the dimensions "
                f"{quoted(crossed.tolist())} of {quoted(self)}. A finite number has to lie between them."
            )
        if np.dtype(self.dtype).kind in "iu":
            limits = np.iinfo(self.dtype)
            for name, side in (("low", lowest), ("high", highest)):
                outside = side[np.isfinite(side) & ((side < limits.min) | (side > limits.max))]
                if outside.size:
                    raise ValueError(
                        f"{name}: expected numbers from {limits.min} to {limits.max} in a Box of {self.dtype}, got "
                        f"{outside[0]:.17g}. Choose another bound or dtype."
                    )


@dataclass(frozen=True)
class Discrete:
    """Space of the integers from start to start + n - 1; an element is one-hot when flattened.

    Any other integer is a vector of zeros when flattened; `gaussjax.strict` refuses it.

    Attributes:
        n: Number of values, at least 1.
        start: Lowest value.

    Raises:
        ValueError: n is below 1, or a value of the space needs more than 32 bits.
        TypeError: n or start is not an integer.

    Example:
        >>> from gaussjax.spaces import size
        >>> size(Discrete(4))
        4
    """

    n: int
    start: int = 0

    def __post_init__(self) -> None:
        for name in ("n", "start"):
            refuse_traced(getattr(self, name), name, "Discrete")
        fill(self, n=count(self.n, "n"), start=integer(self.start, "start"))
        if not -(2**31) <= self.start <= 2**31 - self.n:
            raise ValueError(
                f"start: expected values from -2**31 to 2**31 - 1, got {self.n} values from {self.start} on. JAX keeps "
                f"integers in 32 bits: wrap the environment so that they start at 0."
            )


@dataclass(frozen=True)
class MultiDiscrete:
    """Space of vectors of integers that start at 0; each integer is one-hot when flattened, like a Discrete one.

    Attributes:
        nvec: Number of values of each integer, at least 1.

    Raises:
        ValueError: A number of values is below 1.
        TypeError: The numbers of values are not integers in one axis.

    Example:
        >>> from gaussjax.spaces import size
        >>> size(MultiDiscrete((3, 2)))
        5
    """

    nvec: tuple[int, ...]

    def __post_init__(self) -> None:
        refuse_traced(self.nvec, "nvec", "MultiDiscrete")
        if np.ndim(self.nvec) != 1:
            raise TypeError(f"nvec: expected a tuple of numbers of values, got {self.nvec!r}. One integer is (4,).")
        fill(self, nvec=tuple(count(n, "nvec") for n in self.nvec))


@dataclass(frozen=True)
class Dict:
    """Space of dicts: named spaces, in the order in which their elements are flattened.

    Attributes:
        items: Pairs of a name and a space in any form that `as_space` converts.

    Raises:
        ValueError: Two spaces have the same name.
        TypeError: A name is not text.

    Example:
        >>> from gaussjax.spaces import size
        >>> size(Dict((("image", Box(shape=(2, 2))), ("speed", Box(shape=(1,))))))
        5
    """

    items: tuple[tuple[str, Space], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.items]
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"items: expected texts as names, got {names}. JAX sorts the names of a dict.")
        if len(set(names)) < len(names):
            raise ValueError(
                f"items: expected names that differ, got {quoted(names)}. Give each space a name of its own."
            )
        fill(self, items=tuple((name, as_space(inner)) for name, inner in self.items))


@dataclass(frozen=True)
class Tuple:
    """Space of tuples: a sequence of spaces.

    Attributes:
        items: Spaces of the entries of a tuple, in any form that `as_space` converts.

    Example:
        >>> from gaussjax.spaces import size
        >>> size(Tuple((Box(shape=(2,)), Discrete(3))))
        5
    """

    items: tuple[Space, ...]

    def __post_init__(self) -> None:
        fill(self, items=tuple(as_space(inner) for inner in self.items))


Space = Box | Discrete | MultiDiscrete | Dict | Tuple


def as_space(space: Any) -> Space:
    """Converts a Gymnasium space, a vector length or a shape to a gaussjax space.

    A MultiBinary space becomes a Box of dtype int8 from 0 to 1, which flattens alike.

    Args:
        space: A Gymnasium or gaussjax space, the length of an unbounded vector, or the shape of an unbounded array.

    Returns:
        A frozen, hashable space.

    Raises:
        TypeError: The kind of the space is not supported, such as OneOf, Text, Sequence and Graph; or the numbers in it
            are traced arrays.
        ValueError: A size is negative, or the bounds cross.

    Example:
        >>> as_space(3)
        Box(low=-inf, high=inf, shape=(3,), dtype='float32')
    """
    match space:
        case Box() | Discrete() | MultiDiscrete() | Dict() | Tuple():
            return space
        case int() | np.integer() if not isinstance(space, bool):
            return Box(shape=(space,))
        case tuple() | list() if all(isinstance(n, (int, np.integer)) for n in space):
            return Box(shape=tuple(space))
    refuse_traced(space, "space", "shape")
    # Gymnasium's spaces are recognised by their attributes, without importing gymnasium.
    if hasattr(space, "low") and hasattr(space, "high"):
        return Box(space.low, space.high, space.shape, space.dtype)
    if hasattr(space, "nvec"):
        if np.any(getattr(space, "start", 0)) or np.ndim(space.nvec) != 1:
            raise TypeError(
                f"space: expected a MultiDiscrete that starts at 0 and has one axis, got {space}. "
                f"Wrap the environment so that it has both."
            )
        return MultiDiscrete(space.nvec)
    if hasattr(space, "n") and hasattr(space, "start"):
        return Discrete(space.n, space.start)
    if _is_called(space, "MultiBinary"):
        return Box(0.0, 1.0, space.shape, "int8")
    # A OneOf flattens to the index of the chosen space and one element, a Tuple to the elements of all its spaces.
    inner_spaces = None if _is_called(space, "OneOf") else getattr(space, "spaces", None)
    if isinstance(inner_spaces, Mapping):
        return Dict(tuple((name, as_space(inner)) for name, inner in inner_spaces.items()))
    if isinstance(inner_spaces, tuple):
        return Tuple(tuple(as_space(inner) for inner in inner_spaces))
    repair = "Wrap the environment so that its space is one of these."
    if hasattr(space, "observation_space"):
        repair = "Pass the observation_space or the action_space of the environment."
    raise TypeError(
        f"space: expected a Box, Discrete, MultiDiscrete, Dict or Tuple, an int or a shape, got {space!r}. {repair}"
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
    if not isinstance(box, Box) or _is_called(space, "MultiBinary"):
        parts = isinstance(box, (Dict, Tuple))
        repair = "join the parts to one Box" if parts else "use a categorical policy for discrete actions"
        raise TypeError(
            f"action_space: expected a Box, got {quoted(space)}. A Gaussian policy acts on real vectors; {repair}."
        )
    if not box.shape or 0 in box.shape:
        raise ValueError(
            f"action_space: expected a Box with at least one dimension, got {quoted(space)} of shape "
            f"{box.shape}. Give one action the shape (1,)."
        )
    return box


def _is_called(space: Any, name: str) -> bool:
    return any(cls.__name__ == name for cls in type(space).__mro__)


def _compact(bound: Any, shape: tuple[int, ...], name: str) -> float | tuple[float, ...]:
    """Converts a bound to one number if all entries are equal, otherwise to a tuple of numbers."""
    try:
        values = np.asarray(bound)
    except ValueError as error:
        raise ValueError(f"space: expected {name} as one number or of shape {shape}, got ragged lists.") from error
    if values.dtype.kind not in "biu" and values.dtype not in FLOATING:
        raise TypeError(f"{name}: expected real numbers, got {values.dtype}. Convert them first, with np.asarray.")
    values = _inwards(values, name == "low")
    if values.ndim and values.shape not in (shape, (math.prod(shape),)):
        raise ValueError(f"space: expected {name} as one number or of shape {shape}, got shape {values.shape}.")
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    return tuple(float(value) for value in values.flat)


def _inwards(bound: np.ndarray, is_low: bool) -> np.ndarray:
    """Converts a bound to float64. An integer of 64 bits that rounding would move outwards is rounded inwards."""
    rounded = bound.astype(np.float64)
    if bound.dtype.kind not in "iu" or not (np.abs(rounded) >= 2.0**53).any():
        return rounded
    # Python compares floats with integers exactly.
    low, high = (x.astype(object) for x in ((rounded, bound) if is_low else (bound, rounded)))
    return np.where(low < high, np.nextafter(rounded, math.inf if is_low else -math.inf), rounded)


def _real(dtype: Any) -> str:
    """Returns NumPy's name of a dtype of real numbers."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype: expected a dtype of real numbers such as 'float32', got {dtype!r}.") from error
    if found.kind not in "biu" and found not in FLOATING:
        raise TypeError(f"dtype: expected a dtype of real numbers such as 'float32', got {found}.")
    return found.name

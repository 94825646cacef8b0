"""Observation and action spaces: what a policy must know of an environment.

A policy needs the sizes, the bounds and the structure of its two spaces, and it
must be able to write them into a file. These small frozen classes hold exactly
that. Gymnasium's spaces are read by their attributes, so nothing here imports
gymnasium (which would load every environment it registers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.arrays import xp

Observations = Any
"""An array, or the dict or tuple of arrays that mirrors the observation space."""


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


def as_space(space: Any) -> Space:
    """The gaussjax description of a Gymnasium space, a size or a shape.

    Args:
        space: A space of Gymnasium or of this module, an int (the length of an
            unbounded vector) or a shape.

    Returns:
        A frozen, hashable space.

    Raises:
        TypeError: The space is of a kind that has no flat vector.
        ValueError: A lower bound lies above its upper bound.

    Example:
        >>> as_space(3)
        Box(shape=(3,), low=-inf, high=inf, dtype='float32')
    """
    match space:
        case Box():
            return _checked_box(space.shape, space.low, space.high, space.dtype)
        case Discrete() | MultiDiscrete():
            return space
        case Dict():
            return Dict(tuple((name, as_space(inner)) for name, inner in space.items))
        case Tuple():
            return Tuple(tuple(as_space(inner) for inner in space.items))
        case bool():
            raise _unknown(space)
        case int() | np.integer():
            return _checked_box((space,), -math.inf, math.inf, "float32")
        case tuple() | list() if all(isinstance(n, (int, np.integer)) for n in space):
            return _checked_box(tuple(space), -math.inf, math.inf, "float32")
    return _from_gymnasium(space)


def action_box(space: Any) -> Box:
    """The Box of a continuous action space, or a refusal that names the space.

    Args:
        space: As of `as_space`.

    Returns:
        A Box with at least one dimension.

    Raises:
        TypeError: The space is not a Box: a Gaussian has no density on it.
        ValueError: The Box has no dimension, or its bounds cross.

    Example:
        >>> action_box(Box((2,), -1.0, 1.0)).high
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


def cast(space: Space, observations: Observations, name: str = "observations") -> tuple[Observations, tuple[int, ...]]:
    """Observations as arrays of the space's structure, and their leading dimensions.

    Integers and booleans in a Box become float32. Floating types stay as they
    are (float64 only where JAX runs with x64). A Box of several dimensions also
    takes flat vectors, which it reshapes.

    Args:
        space: What one observation looks like.
        observations: `(…, *shape)` or, for a Box, `(…, size)`; nested as the space.
        name: How the errors call the argument.

    Returns:
        The arrays, and the leading dimensions that they have in common.

    Raises:
        TypeError: The type of an array cannot be used (text, objects, complex).
        ValueError: The shape or the structure is another one.

    Example:
        >>> cast(Box((2,)), np.zeros((5, 2), int))[1]
        (5,)
    """
    match space:
        case Box():
            array = _as_array(observations, name)
            if not xp.is_floating(array):
                array = xp.to_float32(array)
            return _match_shape(space, array, name)
        case Discrete() | MultiDiscrete():
            array = _as_array(observations, name)
            if xp.is_floating(array) or not xp.is_real(array):
                raise TypeError(
                    f"{name}: expected integers for {space}, got {array.dtype}. Use observations.astype(jnp.int32)."
                )
            if isinstance(space, Discrete):
                return array, tuple(array.shape)
            return _match_shape(Box((len(space.nvec),)), array, name)
        case Dict():
            names = tuple(key for key, _ in space.items)
            if not isinstance(observations, Mapping) or set(observations) != set(names):
                raise ValueError(
                    f"{name}: expected a dict with the keys {sorted(names)}, got {_describe(observations)}. "
                    f"Give an array for each key of the space."
                )
            parts = {key: cast(inner, observations[key], f"{name}[{key!r}]") for key, inner in space.items}
            return {key: part[0] for key, part in parts.items()}, _common_batch(parts, name)
        case Tuple():
            if not isinstance(observations, (tuple, list)) or len(observations) != len(space.items):
                raise ValueError(
                    f"{name}: expected a tuple of {len(space.items)} arrays, got {_describe(observations)}. "
                    f"Give an array for each part of the space."
                )
            pairs = zip(space.items, observations, strict=True)
            parts = {i: cast(inner, part, f"{name}[{i}]") for i, (inner, part) in enumerate(pairs)}
            return tuple(part[0] for part in parts.values()), _common_batch(parts, name)


def flatten(space: Space, observations: Observations) -> jax.Array:
    """One float vector an observation: `(…, size(space))`, discrete parts one-hot.

    The order is Gymnasium's own (`gymnasium.spaces.flatten`). Leading dimensions
    are kept.

    Args:
        space: What one observation looks like.
        observations: Arrays of that structure, as `cast` gives them.

    Returns:
        `(…, size(space))`, of the widest floating type among the parts.

    Example:
        >>> flatten(Discrete(3), jnp.array([2, 0]))
        Array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    match space:
        case Box():
            batch = observations.shape[: observations.ndim - len(space.shape)]
            return observations.reshape(*batch, size(space))
        case Discrete():
            return xp.one_hot(observations - space.start, space.n)
        case MultiDiscrete():
            columns = [xp.one_hot(xp.entry(observations, i), n) for i, n in enumerate(space.nvec)]
            return xp.concatenate(columns, axis=-1)
        case Dict():
            parts = [flatten(inner, observations[key]) for key, inner in space.items]
        case Tuple():
            parts = [flatten(inner, part) for inner, part in zip(space.items, observations, strict=True)]
    return xp.concatenate(parts, axis=-1)


def zeros(space: Space, batch_shape: tuple[int, ...] = (), full: Callable[..., Any] = jnp.full) -> Observations:
    """An element of the space's shape and type with all entries at zero (or at the start).

    Args:
        space: Of this module.
        batch_shape: Leading dimensions.
        full: `(shape, value, dtype) -> array`; NumPy's `np.full` makes NumPy arrays.

    Returns:
        An array, or the dict or tuple of arrays that mirrors the space.

    Example:
        >>> zeros(Box((3,)), (5,)).shape
        (5, 3)
    """
    match space:
        case Box():
            dtype = space.dtype if np.issubdtype(space.dtype, np.floating) else "float32"
            return full((*batch_shape, *space.shape), 0, jax.dtypes.canonicalize_dtype(dtype))
        case Discrete():
            return full(batch_shape, space.start, np.int32)
        case MultiDiscrete():
            return full((*batch_shape, len(space.nvec)), 0, np.int32)
        case Dict():
            return {key: zeros(inner, batch_shape, full) for key, inner in space.items}
        case Tuple():
            return tuple(zeros(inner, batch_shape, full) for inner in space.items)


def to_dict(space: Space) -> dict[str, Any]:
    """A JSON-able dict from which `from_dict` makes the same space.

    Infinite bounds are written as the strings "inf" and "-inf": JSON has no number for them.

    Args:
        space: Of this module.

    Returns:
        Dicts, lists, numbers and texts alone.

    Example:
        >>> to_dict(Discrete(4))
        {'type': 'Discrete', 'n': 4, 'start': 0}
    """
    match space:
        case Box():
            low, high = _write_bound(space.low), _write_bound(space.high)
            return {"type": "Box", "shape": list(space.shape), "low": low, "high": high, "dtype": space.dtype}
        case Discrete():
            return {"type": "Discrete", "n": space.n, "start": space.start}
        case MultiDiscrete():
            return {"type": "MultiDiscrete", "nvec": list(space.nvec)}
        case Dict():
            return {"type": "Dict", "items": [[key, to_dict(inner)] for key, inner in space.items]}
        case Tuple():
            return {"type": "Tuple", "items": [to_dict(inner) for inner in space.items]}


def from_dict(description: Mapping[str, Any]) -> Space:
    """The space that `to_dict` described.

    Args:
        description: What `to_dict` gave.

    Returns:
        A space equal to the one described.

    Raises:
        ValueError: The description is not one of a space.

    Example:
        >>> from_dict(to_dict(Box((3,)))) == Box((3,))
        True
    """
    try:
        match description["type"]:
            case "Box":
                shape = tuple(int(n) for n in description["shape"])
                low, high = _read_bound(description["low"]), _read_bound(description["high"])
                return _checked_box(shape, low, high, description["dtype"])
            case "Discrete":
                return Discrete(int(description["n"]), int(description["start"]))
            case "MultiDiscrete":
                return MultiDiscrete(tuple(int(n) for n in description["nvec"]))
            case "Dict":
                return Dict(tuple((str(key), from_dict(inner)) for key, inner in description["items"]))
            case "Tuple":
                return Tuple(tuple(from_dict(inner) for inner in description["items"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"space: expected a description made by to_dict, got {description!r}.") from error
    raise ValueError(
        f"space: expected the type Box, Discrete, MultiDiscrete, Dict or Tuple, got {description['type']!r}."
    )


def _as_array(value: Any, name: str) -> jax.Array:
    kind = getattr(value, "dtype", None)
    if kind is None:
        value = np.asarray(value) if not _holds_tracer(value) else jnp.asarray(value)
        kind = value.dtype
    if not (xp.is_real(value) or str(kind).removeprefix("torch.") == "bool"):
        raise TypeError(
            f"{name}: expected real numbers, got {kind}. Convert them first, with np.asarray({name}, np.float32)."
        )
    return xp.asarray(value)


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"the keys {sorted(value)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} in a {type(value).__name__}"
    return f"an array of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__


def _holds_tracer(value: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))


def _match_shape(box: Box, array: jax.Array, name: str) -> tuple[jax.Array, tuple[int, ...]]:
    rank = len(box.shape)
    shape = tuple(array.shape)
    if shape[array.ndim - rank :] == box.shape and array.ndim >= rank:
        return array, shape[: array.ndim - rank]
    if rank != 1 and array.ndim and array.shape[-1] == size(box):
        return array.reshape(*shape[:-1], *box.shape), shape[:-1]
    expected = ", ".join(["...", *map(str, box.shape)])
    flat = f" or (..., {size(box)})" if rank > 1 else ""
    raise ValueError(
        f"{name}: expected ({expected}){flat}, got {shape}. "
        f"The last axes are one element of the space; any number of axes may stand before them."
    )


def _common_batch(parts: Mapping[Any, tuple[Observations, tuple[int, ...]]], name: str) -> tuple[int, ...]:
    batches = {key: batch for key, (_, batch) in parts.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(
            f"{name}: expected the same leading dimensions in every part, got {batches}. Nothing is broadcast; "
            f"use jnp.broadcast_to for a part that is the same for the whole batch."
        )
    return next(iter(batches.values()), ())


def _from_gymnasium(space: Any) -> Space:
    if hasattr(space, "low") and hasattr(space, "high"):
        return _checked_box(space.shape, space.low, space.high, space.dtype)
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
    raise _unknown(space)


def _unknown(space: Any) -> TypeError:
    return TypeError(
        f"space: expected a Box, Discrete, MultiDiscrete, Dict or Tuple, an int or a shape, got "
        f"{space!r}. Wrap the environment so that its space is one of these."
    )


def _checked_box(shape: Any, low: Any, high: Any, dtype: Any) -> Box:
    """A Box of plain hashable numbers, whatever array types they came in."""
    shape = tuple(int(n) for n in shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"space: expected sizes of zero or more, got the shape {shape}.")
    box = Box(shape, _compact(low, shape, "low"), _compact(high, shape, "high"), np.dtype(dtype).name)
    # Two numbers are compared as such: a shape alone must not make an array of its size.
    lowest, highest = np.atleast_1d(box.low), np.atleast_1d(box.high)
    crossed = np.flatnonzero(~(lowest <= highest))
    if crossed.size:
        low, high = (np.broadcast_to(side, max(lowest.size, highest.size)) for side in (lowest, highest))
        raise ValueError(
            f"space: expected low <= high, got low {low[crossed]} and high {high[crossed]} in the "
            f"dimensions {crossed.tolist()} of {box}."
        )
    return box


def _compact(bound: Any, shape: tuple[int, ...], name: str) -> float | tuple[float, ...]:
    values = np.asarray(bound, np.float64)
    if values.ndim and values.shape not in (shape, (math.prod(shape),)):
        raise ValueError(f"space: expected {name} as one number or of shape {shape}, got shape {values.shape}.")
    if values.size and np.all(values == values.flat[0]):
        return float(values.flat[0])
    return tuple(float(value) for value in values.flat)


def _write_bound(bound: float | tuple[float, ...]) -> Any:
    if isinstance(bound, tuple):
        return [_write_bound(value) for value in bound]
    return bound if math.isfinite(bound) else str(bound)


def _read_bound(bound: Any) -> float | tuple[float, ...]:
    if isinstance(bound, list):
        return tuple(float(value) for value in bound)
    return float(bound)

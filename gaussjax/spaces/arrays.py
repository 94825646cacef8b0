"""Conversion of observations to arrays and to flat vectors, bounds of a Box, and observations filled with zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import as_array, xp
from gaussjax.core.compiled import checked, not_real, refuse_huge
from gaussjax.core.text import quoted
from gaussjax.spaces.kinds import Box, Dict, Discrete, MultiDiscrete, Tuple, action_box, as_space

Observations = Any
"""An array, or a dict or tuple of arrays with the structure of the observation space."""


def cast(space: Any, observations: Observations, name: str = "observations") -> tuple[Observations, tuple[int, ...]]:
    """Converts observations to arrays with the structure of the space; also returns their batch shape.

    Integers and booleans in a Box become float32, except the integers of `has_pixels` spaces. Floating dtypes are kept
    (float64 with x64 only). Flat vectors for a Box of several axes are reshaped.

    Args:
        space: Space of one observation, in any form that `as_space` converts.
        observations: Arrays of shape `(…, *shape)` or, for a Box, `(…, size)`; nested like the space.
        name: Name of the argument in errors.

    Returns:
        The arrays, and the shape of the leading axes that they share.

    Raises:
        TypeError: The dtype of an array is not real (text, objects, complex), or not integer for a discrete part.
        ValueError: The shape or the structure does not fit the space.

    Example:
        >>> cast(Box(shape=(2,)), np.zeros((5, 2), int))[1]
        (5,)
    """
    match space:
        case Dict():
            names = tuple(key for key, _ in space.items)
            if not isinstance(observations, Mapping) or set(observations) != set(names):
                raise ValueError(
                    f"{name}: expected a dict with the keys {quoted(sorted(names))}, got {_describe(observations)}. "
                    f"Give an array for each key of the space."
                )
            parts = {key: cast(inner, observations[key], f"{name}[{key!r}]") for key, inner in space.items}
        case Tuple():
            if not isinstance(observations, (tuple, list)) or len(observations) != len(space.items):
                raise ValueError(
                    f"{name}: expected a tuple of {len(space.items)} arrays, got {_describe(observations)}. "
                    f"Give an array for each part of the space."
                )
            parts = {i: cast(inner, observations[i], f"{name}[{i}]") for i, inner in enumerate(space.items)}
        case Box() | Discrete() | MultiDiscrete():
            return _cast_array(space, observations, name)
        case _:
            return cast(as_space(space), observations, name)
    arrays, batches = ({key: part[i] for key, part in parts.items()} for i in range(2))
    if len(set(batches.values())) > 1:
        raise ValueError(
            f"{name}: expected the same leading dimensions in every part, got {batches}. Nothing is broadcast; "
            f"use jnp.broadcast_to for a part that the whole batch shares."
        )
    return arrays if isinstance(space, Dict) else tuple(arrays.values()), next(iter(batches.values()), ())


def flatten(space: Any, observations: Observations) -> jax.Array:
    """Converts observations to flat float vectors like `gymnasium.spaces.flatten`; discrete parts become one-hot.

    An integer that is no element of its discrete part becomes zeros; `gaussjax.strict` refuses it.

    Args:
        space: Space of one observation, in any form that `as_space` converts.
        observations: Arrays as returned by `cast`.

    Returns:
        Array of shape `(…, size(space))` in the widest floating dtype among the parts.

    Example:
        >>> flatten(Discrete(3), jnp.array([2, 0]))
        Array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    match space:
        case Box():
            floats = observations if xp.is_floating(observations) else xp.to_float32(observations)
            batch = observations.shape[: observations.ndim - len(space.shape)]
            return floats if len(space.shape) == 1 else floats.reshape(*batch, math.prod(space.shape))
        case Discrete():
            return xp.one_hot(xp.to_int32(observations) - space.start, space.n)
        case MultiDiscrete():
            integers = xp.to_int32(observations)
            parts = [xp.one_hot(xp.entry(integers, i), n) for i, n in enumerate(space.nvec)]
        case Dict():
            parts = [flatten(inner, observations[key]) for key, inner in space.items]
        case Tuple():
            parts = [flatten(inner, part) for inner, part in zip(space.items, observations, strict=True)]
        case _:
            return flatten(as_space(space), observations)
    return xp.concatenate(parts, axis=-1)


def zeros(space: Any, batch_shape: tuple[int, ...] = (), full: Callable[..., Any] = jnp.full) -> Observations:
    """Observations filled with zeros; a Discrete space gives its lowest value, `start`.

    Args:
        space: Space of one observation, in any form that `as_space` converts.
        batch_shape: Shape of the leading axes of each array.
        full: `(shape, value, dtype) -> array`; `np.full` makes NumPy arrays.

    Returns:
        An array, or a dict or tuple of arrays with the structure of the space.

    Example:
        >>> zeros(Box(shape=(3,)), (5,)).shape
        (5, 3)
    """
    match space := as_space(space):
        case Box():
            dtype = space.dtype if has_pixels(space) or np.issubdtype(space.dtype, np.floating) else "float32"
            refuse_huge((*batch_shape, *space.shape), "space")
            return full((*batch_shape, *space.shape), 0, jax.dtypes.canonicalize_dtype(dtype))
        case Discrete():
            return full(batch_shape, space.start, np.int32)
        case MultiDiscrete():
            return full((*batch_shape, len(space.nvec)), 0, np.int32)
        case Dict():
            return {key: zeros(inner, batch_shape, full) for key, inner in space.items}
        case Tuple():
            return tuple(zeros(inner, batch_shape, full) for inner in space.items)


def storage(space: Any) -> Any:
    """Shapes and dtypes in which observations are kept in buffers and datasets, nested like the space.

    Args:
        space: Space of one observation, in any form that `as_space` converts.

    Returns:
        `jax.ShapeDtypeStruct` of one element of each part: float32, uint8 for a Box of this dtype, and int32 for
        discrete parts.

    Example:
        >>> storage(Discrete(3))
        ShapeDtypeStruct(shape=(), dtype=int32)
    """
    match space := as_space(space):
        case Dict():
            return {name: storage(inner) for name, inner in space.items}
        case Tuple():
            return tuple(map(storage, space.items))
        case Box():
            return jax.ShapeDtypeStruct(space.shape, np.uint8 if space.dtype == "uint8" else np.float32)
        case MultiDiscrete():
            return jax.ShapeDtypeStruct((len(space.nvec),), np.int32)
    return jax.ShapeDtypeStruct((), np.int32)


def to_gymnasium(space: Any, stored: bool = False) -> Any:
    """The same space in Gymnasium, which has to be installed.

    Args:
        space: Space in any form that `as_space` converts.
        stored: Whether Boxes have the dtypes of `storage` in place of their own.

    Example:
        >>> to_gymnasium(Dict((("speed", Box(-1.0, 1.0, (2,))), ("gear", Discrete(4)))))
        Dict('gear': Discrete(4), 'speed': Box(-1.0, 1.0, (2,), float32))
    """
    from gymnasium import spaces

    match space := as_space(space):
        case Dict():
            return spaces.Dict({name: to_gymnasium(inner, stored) for name, inner in space.items})
        case Tuple():
            return spaces.Tuple([to_gymnasium(inner, stored) for inner in space.items])
        case Box():
            dtype = np.dtype(storage(space).dtype if stored else space.dtype)
            low, high = (side.reshape(space.shape) for side in bounds(space))
            low, high = _in_dtype(low, dtype, np.ceil), _in_dtype(high, dtype, np.floor)
            return spaces.Box(low, high, space.shape, dtype.type)
        case MultiDiscrete():
            return spaces.MultiDiscrete(list(space.nvec))
    return spaces.Discrete(space.n, start=space.start)


def _in_dtype(side: np.ndarray, dtype: np.dtype, to_integer: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Bounds in a dtype: integers by `to_integer`, and floats rounded to the nearest, as observations are.

    An integer has no infinite bounds, and the ends of 64 bits are no float64 numbers.
    """
    if dtype.kind not in "iu":
        return side.astype(dtype)
    side, ends = to_integer(side), np.iinfo(dtype)
    inside = (side > ends.min) & (side < ends.max)
    ends = np.where(side > ends.min, ends.max, ends.min).astype(dtype)
    return np.where(inside, np.where(inside, side, 0.0).astype(dtype), ends)


def check_cast(array: np.ndarray, dtype: np.dtype, wrong: Callable[[Any, Any], Exception]) -> None:
    """Raises `wrong(dtype, number)` for a number that an integer dtype cannot hold, which NumPy wraps or cuts."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and not np.can_cast(array.dtype, dtype):
        with np.errstate(invalid="ignore"):
            lost = array.astype(dtype) != array
        if lost.any():
            raise wrong(dtype, array[lost][0])


def boxes(space: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], np.dtype]]:
    """Yields path and dtype of each Box. Discrete parts are left out: Gymnasium gives them 64 bits."""
    if isinstance(space, (Dict, Tuple)):
        for name, inner in space.items if isinstance(space, Dict) else enumerate(space.items):
            yield from boxes(inner, (*path, name))
    elif isinstance(space, Box):
        yield path, np.dtype(space.dtype)


def has_pixels(space: Any) -> bool:
    """True for a Box of dtype uint8 with two or more axes, whose integers stay integers up to the network.

    Args:
        space: A gaussjax space.

    Returns:
        Whether its elements are images of integer pixels.

    Example:
        >>> has_pixels(Box(0, 255, (64, 64, 3), "uint8")), has_pixels(Box(0, 255, (128,), "uint8"))
        (True, False)
    """
    return isinstance(space, Box) and space.dtype == "uint8" and len(space.shape) > 1


def size(space: Any) -> int:
    """Length of the flat vector to which `flatten` converts one element of a space.

    Args:
        space: A space in any form that `as_space` converts.

    Returns:
        Size of the last axis of the result of `flatten`.

    Example:
        >>> size(Tuple((Discrete(4), Box(shape=(2, 3)))))
        10
    """
    match space := as_space(space):
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


def bounds(box: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of a Box as flat vectors.

    Args:
        box: A Box of any shape, of gaussjax or Gymnasium.

    Returns:
        Two float64 arrays `(size(box),)` in row-major order, with inf and -inf for no bound.

    Raises:
        TypeError: The space is not a Box.

    Example:
        >>> bounds(Box(-1.0, (1.0, 3.0), (2,)))
        (array([-1., -1.]), array([1., 3.]))
    """
    box = as_space(box)
    if not isinstance(box, Box):
        raise TypeError(f"box: expected a Box, got {box}. Other spaces have no bounds.")
    low, high = (np.broadcast_to(np.asarray(side, np.float64), size(box)) for side in (box.low, box.high))
    return low, high


def uniform_bounds(action_space: Any) -> tuple[np.ndarray, np.ndarray]:
    """Bounds between which numbers are drawn for uniform actions, which are then clipped and rounded to the Box.

    Those of an integer Box are wider by a half, so that its first and last integers are as likely as the others.
    """
    box = action_box(action_space)
    low, high = bounds(box)
    wider = 0.5 if jnp.dtype(box.dtype).kind in "biu" else 0.0
    return low - wider, high + wider


def _cast_array(space: Box | Discrete | MultiDiscrete, value: Any, name: str) -> tuple[jax.Array, tuple[int, ...]]:
    if isinstance(value, Mapping):
        raise TypeError(f"{name}: expected an array for {space}, got {_describe(value)}. Pass the array itself.")
    value = value if hasattr(value, "dtype") else as_array(value, name)
    if isinstance(value, (np.ndarray, np.generic)):
        value = checked(value, name, name)
    if not (xp.is_floating(value) or xp.is_real(value) or str(value.dtype).removeprefix("torch.") == "bool"):
        raise not_real(name, value.dtype, name)
    array, element = xp.asarray(value), ()
    if isinstance(space, Box):
        element, kept = space.shape, xp.is_floating(array) or (has_pixels(space) and xp.is_real(array))
        array = array if kept else xp.to_float32(array)
    elif xp.is_floating(array) or not xp.is_real(array):
        # Integers beyond int32 have become float32.
        repair = f"Use {name}.astype(jnp.int32) if all numbers are within int32."
        raise TypeError(f"{name}: expected integers for {space}, got {array.dtype}. {repair}")
    elif isinstance(space, MultiDiscrete):
        element = (len(space.nvec),)
    rank, shape, length = len(element), tuple(array.shape), math.prod(element)
    if array.ndim >= rank and shape[array.ndim - rank :] == element:
        return array, shape[: array.ndim - rank]
    if rank != 1 and shape[-1:] == (length,):
        return array.reshape(*shape[:-1], *element), shape[:-1]
    expected = ", ".join(["...", *map(str, element)])
    flat = f" or (..., {length})" if rank > 1 else ""
    raise ValueError(
        f"{name}: expected ({expected}){flat}, got {shape}. "
        f"The last axes are one element of the space, after any number of leading axes."
    )


def _describe(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"the keys {quoted(sorted(value, key=str))}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} in a {type(value).__name__}"
    return f"an array of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__

"""Conversion of observations to arrays and to flat vectors, and observations filled with zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import is_other, xp
from gaussjax.spaces.kinds import Box, Dict, Discrete, MultiDiscrete, Space, Tuple

Observations = Any
"""An array, or a dict or tuple of arrays with the structure of the observation space."""


def cast(space: Space, observations: Observations, name: str = "observations") -> tuple[Observations, tuple[int, ...]]:
    """Converts observations to arrays with the structure of the space; also returns their batch shape.

    Integers and booleans in a Box become float32. Floating dtypes are kept (float64 with x64 only). Flat
    vectors for a Box of several axes are reshaped.

    Args:
        space: Space of one observation.
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
                    f"{name}: expected a dict with the keys {sorted(names)}, got {_describe(observations)}. "
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
        case _:
            return _cast_array(space, observations, name)
    arrays, batches = ({key: part[i] for key, part in parts.items()} for i in range(2))
    if len(set(batches.values())) > 1:
        raise ValueError(
            f"{name}: expected the same leading dimensions in every part, got {batches}. Nothing is broadcast; "
            f"use jnp.broadcast_to for a part that the whole batch shares."
        )
    return arrays if isinstance(space, Dict) else tuple(arrays.values()), next(iter(batches.values()), ())


def flatten(space: Space, observations: Observations) -> jax.Array:
    """Converts observations to flat float vectors like `gymnasium.spaces.flatten`; discrete parts become one-hot.

    Args:
        space: Space of one observation.
        observations: Arrays as returned by `cast`.

    Returns:
        Array of shape `(…, size(space))` in the widest floating dtype among the parts.

    Example:
        >>> flatten(Discrete(3), jnp.array([2, 0]))
        Array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    match space:
        case Box(shape=(_,)):
            return observations
        case Box():
            batch = observations.shape[: observations.ndim - len(space.shape)]
            return observations.reshape(*batch, math.prod(space.shape))
        case Discrete():
            return xp.one_hot(observations - space.start, space.n)
        case MultiDiscrete():
            parts = [xp.one_hot(xp.entry(observations, i), n) for i, n in enumerate(space.nvec)]
        case Dict():
            parts = [flatten(inner, observations[key]) for key, inner in space.items]
        case Tuple():
            parts = [flatten(inner, part) for inner, part in zip(space.items, observations, strict=True)]
    return xp.concatenate(parts, axis=-1)


def zeros(space: Space, batch_shape: tuple[int, ...] = (), full: Callable[..., Any] = jnp.full) -> Observations:
    """Observations filled with zeros; a Discrete space gives its lowest value, `start`.

    Args:
        space: Space of one observation.
        batch_shape: Shape of the leading axes of each array.
        full: `(shape, value, dtype) -> array`; `np.full` makes NumPy arrays.

    Returns:
        An array, or a dict or tuple of arrays with the structure of the space.

    Example:
        >>> zeros(Box(shape=(3,)), (5,)).shape
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


def _cast_array(space: Box | Discrete | MultiDiscrete, value: Any, name: str) -> tuple[jax.Array, tuple[int, ...]]:
    if isinstance(value, Mapping):
        raise TypeError(f"{name}: expected an array for {space}, got {_describe(value)}. Pass the array itself.")
    if not hasattr(value, "dtype"):
        traced = is_other(value) or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
        value = xp.asarray(value) if traced else np.asarray(value)
    if not (xp.is_floating(value) or xp.is_real(value) or str(value.dtype).removeprefix("torch.") == "bool"):
        raise TypeError(
            f"{name}: expected real numbers, got {value.dtype}. Convert them first, "
            f"with np.asarray({name}, np.float32)."
        )
    array, element = xp.asarray(value), ()
    if isinstance(space, Box):
        element = space.shape
        array = array if xp.is_floating(array) else xp.to_float32(array)
    elif xp.is_floating(array) or not xp.is_real(array):
        raise TypeError(f"{name}: expected integers for {space}, got {array.dtype}. Use {name}.astype(jnp.int32).")
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
        return f"the keys {sorted(value)}"
    if isinstance(value, (tuple, list)):
        return f"{len(value)} in a {type(value).__name__}"
    return f"an array of shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__

"""Observations of a space: validation, flattening and zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import xp
from gaussjax.spaces.kinds import Box, Dict, Discrete, MultiDiscrete, Space, Tuple, size

Observations = Any
"""An array, or a dict or tuple of arrays with the structure of the observation space."""


def cast(space: Space, observations: Observations, name: str = "observations") -> tuple[Observations, tuple[int, ...]]:
    """Observations as arrays with the structure of the space, and their batch shape.

    Integers and booleans in a Box become float32. Floating dtypes are kept, float64 only with x64
    enabled. A Box of several axes also takes flat vectors and reshapes them.

    Args:
        space: The space of one observation.
        observations: `(…, *shape)` or, for a Box, `(…, size)`; nested like the space.
        name: Name of the argument in errors.

    Returns:
        The arrays, and the leading axes that they share.

    Raises:
        TypeError: An array has no real dtype (text, objects, complex), or a discrete part no integer one.
        ValueError: The shape or the structure does not fit the space.

    Example:
        >>> cast(Box(shape=(2,)), np.zeros((5, 2), int))[1]
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
            return _match_shape(Box(shape=(len(space.nvec),)), array, name)
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
    """Observations as float vectors, `(…, size(space))`, with discrete parts one-hot.

    The order is that of `gymnasium.spaces.flatten`.

    Args:
        space: The space of one observation.
        observations: Arrays with the structure of the space, as `cast` returns them.

    Returns:
        `(…, size(space))` in the widest floating dtype among the parts.

    Example:
        >>> flatten(Discrete(3), jnp.array([2, 0]))
        Array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """
    match space:
        case Box():
            batch = observations.shape[: observations.ndim - len(space.shape)]
            return observations.reshape(*batch, math.prod(space.shape))
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
    """Observations of zeros; of `start` where a Discrete space starts elsewhere.

    Args:
        space: The space of one observation.
        batch_shape: Leading axes.
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
        f"The last axes are one element of the space, after any number of leading axes."
    )


def _common_batch(parts: Mapping[Any, tuple[Observations, tuple[int, ...]]], name: str) -> tuple[int, ...]:
    batches = {key: batch for key, (_, batch) in parts.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(
            f"{name}: expected the same leading dimensions in every part, got {batches}. Nothing is broadcast; "
            f"use jnp.broadcast_to for a part that the whole batch shares."
        )
    return next(iter(batches.values()), ())

"""Conversion of Gymnasium spaces, sizes and shapes to gaussjax spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gaussjax.spaces.kinds import Box, Dict, Discrete, MultiDiscrete, Space, Tuple


def as_space(space: Any) -> Space:
    """Converts a Gymnasium space, a vector length or a shape to a gaussjax space.

    Args:
        space: A Gymnasium or gaussjax space, the length of an unbounded vector, or the shape of an unbounded array.

    Returns:
        A frozen, hashable space.

    Raises:
        TypeError: The kind of the space is not supported.

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

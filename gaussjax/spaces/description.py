"""Conversion of spaces to dicts that JSON can store, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gaussjax.core import untrusted
from gaussjax.core.text import quoted
from gaussjax.spaces.arrays import size
from gaussjax.spaces.kinds import Box, Dict, Discrete, MultiDiscrete, Space, Tuple, as_space

# Limits on described spaces. Real spaces stay below them: four images of 1000 × 800 pixels fit.
_MOST_NUMBERS, _MOST_PARTS, _MOST_AXES = 10**7, 1000, 32


def to_dict(space: Any) -> dict[str, Any]:
    """Describes a space by a dict that JSON can store and `from_dict` converts back.

    Args:
        space: A space in any form that `as_space` converts.

    Returns:
        Dicts, lists, numbers and strings. Infinite bounds are "inf" and "-inf": JSON has no number for them.

    Example:
        >>> to_dict(Discrete(4))
        {'type': 'Discrete', 'n': 4, 'start': 0}
    """
    match space := as_space(space):
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
    """Makes a space from a dict that `to_dict` returned.

    Args:
        description: Dict returned by `to_dict`.

    Returns:
        A space equal to the described one.

    Raises:
        ValueError: The dict describes no space, or one with more than 10,000,000 numbers or 1,000 parts.

    Example:
        >>> from_dict(to_dict(Box(shape=(3,)))) == Box(shape=(3,))
        True
    """
    try:
        untrusted.refuse_large(description, 2 * _MOST_NUMBERS)
    except ValueError as error:
        raise ValueError(f"space: {error}.") from error
    space = _read(description)
    if _parts(space) > _MOST_PARTS:
        raise ValueError(f"space: expected at most {_MOST_PARTS:,} spaces in one, got {_parts(space):,}.")
    if size(space) > _MOST_NUMBERS:
        raise ValueError(f"space: expected at most {_MOST_NUMBERS:,} numbers, got {quoted(size(space))} in the space.")
    return space


def _read(description: Any) -> Space:
    try:
        match description["type"]:
            case "Box":
                shape = tuple(int(n) for n in description["shape"])
                if len(shape) > _MOST_AXES:
                    raise ValueError(f"space: expected at most {_MOST_AXES} axes, got {len(shape):,}.")
                low, high = _read_bound(description["low"]), _read_bound(description["high"])
                return Box(low, high, shape, description["dtype"])
            case "Discrete":
                return Discrete(int(description["n"]), int(description["start"]))
            case "MultiDiscrete":
                return MultiDiscrete(tuple(int(n) for n in description["nvec"]))
            case "Dict":
                return Dict(tuple((str(key), _read(inner)) for key, inner in description["items"]))
            case "Tuple":
                return Tuple(tuple(_read(inner) for inner in description["items"]))
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"space: expected a description made by to_dict, got {quoted(description)}.") from error
    raise ValueError(
        f"space: expected the type Box, Discrete, MultiDiscrete, Dict or Tuple, got {quoted(description['type'])}."
    )


def _parts(space: Space) -> int:
    match space:
        case Dict():
            return 1 + sum(_parts(inner) for _, inner in space.items)
        case Tuple():
            return 1 + sum(_parts(inner) for inner in space.items)
    return 1


def _write_bound(bound: float | tuple[float, ...]) -> Any:
    if isinstance(bound, tuple):
        return [_write_bound(value) for value in bound]
    return bound if math.isfinite(bound) else str(bound)


def _read_bound(bound: Any) -> float | tuple[float, ...]:
    return tuple(float(value) for value in bound) if isinstance(bound, list) else float(bound)

"""What a policy file may not hold: descriptions too large to build, and arrays that are not the policy's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gaussjax import normalize, spaces

# The parts of a description beside the number of its format.
_PARTS: Mapping[str, type] = {"policy": dict, "cast": list, "metadata": dict, "versions": dict}
# Beyond these a description is not that of a policy.
_MOST_LAYERS, _MOST_AXES, _MOST_NUMBERS = 500, 32, 10**8


def refuse_bombs(described: Any, num_tensors: int) -> None:
    """Refuses a short text that asks for more than any policy is: it would take for ever to build.

    Raises:
        ValueError: A list, a shape or a number of layers is too large beside the arrays in the file.
    """
    _refuse(described, max(num_tensors, _MOST_LAYERS), "policy")


def strange_parts(description: Mapping[str, Any]) -> list[str]:
    """What a description holds in place of the dicts and the list that are read from it."""
    return [
        f"{name}: expected a {kind.__name__} in the description, got {type(description[name]).__name__}"
        for name, kind in _PARTS.items()
        if name in description and not isinstance(description[name], kind)
    ]


def strange_statistics(statistics: normalize.Statistics, space: spaces.Space) -> str | None:
    """What statistics of other observations than those of the space expected and got."""
    flat = (spaces.size(space),)
    # Flat statistics belong to flattened observations.
    allowed = dict.fromkeys([space.shape, flat] if isinstance(space, spaces.Box) else [flat])
    count, mean, m2 = (tuple(np.shape(part)) for part in statistics)
    if count == () and mean == m2 and mean in allowed:
        return None
    return (
        f"expected a count of shape () and mean and m2 of shape {' or '.join(map(str, allowed))}, "
        f"got {count}, {mean} and {m2}"
    )


def mismatches(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, Any], cast: Any, kept: Callable[[Any], Any]
) -> list[str]:
    """Every leaf that is missing, unknown, of another shape, of another type, or that would be narrowed.

    `kept` says what the library at hand makes of a type: JAX without x64 halves it.
    """
    came = {name: array for name, array in tensors.items() if not name.startswith("normalizer/")}
    faults = [f"{name} is missing (expected {leaf.shape})" for name, leaf in expected.items() if name not in came]
    faults += [f"{name} is unknown (got {array.shape})" for name, array in came.items() if name not in expected]
    for name, leaf in expected.items():
        if name not in came:
            continue
        array = came[name]
        if array.shape != leaf.shape:
            faults.append(f"{name}: expected {leaf.shape}, got {array.shape}")
        if array.dtype != leaf.dtype and name not in cast:
            faults.append(f"{name}: expected {leaf.dtype}, got {array.dtype}")
        elif kept(array.dtype) != array.dtype:
            faults.append(f"{name}: expected 32 bits, got {array.dtype}, which needs jax_enable_x64")
    return faults


def _refuse(described: Any, most_layers: int, name: str) -> None:
    if isinstance(described, dict):
        for key, part in described.items():
            _refuse(part, most_layers, key)
    elif isinstance(described, list):
        if name == "shape" and (len(described) > _MOST_AXES or abs(math.prod(described)) > _MOST_NUMBERS):
            raise ValueError(f"expected a shape of at most {_MOST_NUMBERS} numbers, got {described[:_MOST_AXES]}")
        if name not in ("low", "high", "nvec") and len(described) > most_layers:
            raise ValueError(f"expected at most {most_layers} {name}, got {len(described)}")
        for part in described:
            _refuse(part, most_layers, name)
    elif name == "num_layers" and isinstance(described, (int, float)) and described > most_layers:
        raise ValueError(f"expected at most {most_layers} layers, got num_layers={described}")

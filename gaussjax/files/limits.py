"""Checks of the content of a policy file before a policy is made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from gaussjax import networks, spaces
from gaussjax.core.text import quoted
from gaussjax.core.trees import differences
from gaussjax.networks import description
from gaussjax.policy import multivariate_gaussian

_PARTS: Mapping[str, type] = {"policy": dict, "cast": list, "metadata": dict, "versions": dict}


def refuse_other_size(spec: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError if a policy has more layers, parameters or actions than the file holds.

    A policy takes memory and time when it is built, so the description is compared with the arrays before.
    """
    if not {"kind", "network", "action_space"} <= set(spec):
        return  # `from_spec` names what is missing.
    params = [array for name, array in tensors.items() if name.startswith("params/")]
    num_actions = spaces.size(spaces.from_dict(spec["action_space"]))
    described = spec["network"].get("type") != "custom"
    layers = list(description.widths(networks.from_spec(spec["network"]))) if described else []
    # Each action has a parameter of its own, and for a full covariance each pair of actions.
    pairs = num_actions * (num_actions - 1) // 2 if spec["kind"] == multivariate_gaussian.__name__ else 0
    wanted = num_actions + pairs if described else 0
    for what, expected, found in (
        ("layers", sum(count for width, count in layers if width), len(params)),
        ("parameters", wanted + sum(width * count for width, count in layers), sum(array.size for array in params)),
    ):
        if expected > found:
            raise ValueError(f"expected arrays of at least {quoted(expected)} {what}, got {found:,}")


def plain(value: Any, where: str) -> Any:
    """Returns a value as JSON can hold it; raises for NaN, infinities, keys that are not text, and other types."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: expected text as keys, got {quoted(list(value))}. Convert them with str.")
        return {key: plain(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"{where}: expected a finite number, got {value}: JSON has none for it. Leave it out, or use None."
        )
    if value is not None and not isinstance(value, (str, bool, int, float)):
        raise TypeError(f"{where}: expected text, numbers, lists or dicts, got {type(value).__name__}. Use str(value).")
    return value


def part_faults(described: Mapping[str, Any]) -> list[str]:
    """Returns an error sentence for each part of a file's description that has the wrong type."""
    return [
        f"{name}: expected a {kind.__name__} in the description, got {type(described[name]).__name__}"
        for name, kind in _PARTS.items()
        if name in described and not isinstance(described[name], kind)
    ]


def mismatches(
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    cast: Any,
    kept: Callable[[np.dtype], Any],
) -> list[str]:
    """Returns an error sentence for each parameter that is missing, unknown, or of another shape or dtype."""
    params = {name: array for name, array in tensors.items() if not name.startswith("normalizer/")}
    shapes, wanted = ({name: leaf.shape for name, leaf in leaves.items()} for leaves in (params, expected))
    faults = differences(shapes, wanted)
    for name in (name for name in expected if name in params):
        leaf, array = expected[name], params[name]
        if array.dtype != leaf.dtype and name not in cast:
            faults.append(f"{name}: expected {leaf.dtype}, got {array.dtype}")
        elif kept(array.dtype) != array.dtype:  # Without x64, JAX converts 64 bits to 32.
            faults.append(f"{name}: expected 32 bits, got {array.dtype}, which needs jax_enable_x64")
    return faults

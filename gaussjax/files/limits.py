"""Checks of the content of a policy file before a policy is made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize, spaces
from gaussjax.core.trees import differences

_PARTS: Mapping[str, type] = {"policy": dict, "cast": list, "metadata": dict, "versions": dict}
_MAKE = normalize.MAKE_STATISTICS.removesuffix(".")
# Limits on the size of a policy's description, far above any real policy.
_MOST_LAYERS, _MOST_AXES, _MOST_NUMBERS = 500, 32, 10**8


def refuse_bombs(description: Any, num_tensors: int, name: str = "policy") -> None:
    """Raises ValueError for a description whose network would take too much time or memory to build."""
    most_layers = max(num_tensors, _MOST_LAYERS)
    if isinstance(description, dict):
        for key, part in description.items():
            refuse_bombs(part, num_tensors, key)
    elif isinstance(description, list):
        if name == "shape" and (len(description) > _MOST_AXES or abs(math.prod(description)) > _MOST_NUMBERS):
            raise ValueError(f"expected a shape of at most {_MOST_NUMBERS} numbers, got {description[:_MOST_AXES]}")
        if name not in ("low", "high", "nvec") and len(description) > most_layers:
            raise ValueError(f"expected at most {most_layers} {name}, got {len(description)}")
        for part in description:
            refuse_bombs(part, num_tensors, name)
    elif name == "num_layers" and isinstance(description, (int, float)) and description > most_layers:
        raise ValueError(f"expected at most {most_layers} layers, got num_layers={description}")


def plain(value: Any, where: str) -> Any:
    """Returns a value as JSON can hold it; raises for NaN, infinities, keys that are not text, and other types."""
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: expected text as keys, got {list(value)[:20]}. Convert them with str.")
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


def part_faults(description: Mapping[str, Any]) -> list[str]:
    """Returns an error sentence for each part of a file's description that has the wrong type."""
    return [
        f"{name}: expected a {kind.__name__} in the description, got {type(description[name]).__name__}"
        for name, kind in _PARTS.items()
        if name in description and not isinstance(description[name], kind)
    ]


def statistics_fault(statistics: normalize.Statistics, space: spaces.Space) -> str | None:
    """Returns None if the statistics are numbers that describe observations of the space, else an error sentence."""
    arrays = {name: np.asarray(part) for name, part in statistics._asdict().items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, np.floating):
            return f"expected {name} as floats, got {array.dtype}. {_MAKE}"
    if not isinstance(space, spaces.Box):
        return (
            f"expected observations of a Box, got a {type(space).__name__} space, whose parts these statistics do not "
            f"name. Save without normalizer="
        )
    # Observations are normalized either in the shape of the space or flattened.
    allowed = dict.fromkeys([space.shape, (spaces.size(space),)])
    count, mean, m2 = (arrays[name].shape for name in ("count", "mean", "m2"))
    if count != () or mean != m2 or mean not in allowed:
        return (
            f"expected a count of shape () and mean and m2 of shape {' or '.join(map(str, allowed))}, "
            f"got {count}, {mean} and {m2}. Begin with normalize.init(shape), for the shape of one observation"
        )
    others = {"clip": (), "count_rest": (2,), "mean_rest": (2, *mean), "m2_rest": (2, *mean)}
    for name, array in arrays.items():
        if array.shape != others.get(name, array.shape):
            return f"expected {name} of shape {others[name]}, got {array.shape}. {_MAKE}"
        least = {"count": "finite and at least 0", "m2": "finite and at least 0", "clip": "above 0"}
        right = array > 0 if name == "clip" else np.isfinite(array) & ((array >= 0) | (name not in least))
        if not right.all():
            return f"expected {name} {least.get(name, 'finite')}, got {array[~right][0]}. {_MAKE}"
    return None


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

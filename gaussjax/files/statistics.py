"""Observation statistics as arrays of a policy file, nested like the observation space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from gaussjax import normalize, spaces
from gaussjax.core.text import quoted

PREFIX = "normalizer"
_MAKE = normalize.MAKE_STATISTICS.removesuffix(".")
_FIELDS = normalize.Statistics._fields


def to_arrays(statistics: normalize.Normalizer, space: spaces.Space, name: str = PREFIX) -> dict[str, np.ndarray]:
    """Returns statistics as arrays with names such as `normalizer/mean` or `normalizer/joints/mean`.

    Raises:
        TypeError: A part of the statistics has another type.
        ValueError: The statistics do not describe observations of the space.
    """
    if statistics is None:
        return {}
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        keys = [key for key, _, _ in _parts(space)]
        if not isinstance(statistics, (Mapping, tuple)) or isinstance(statistics, normalize.Statistics):
            raise TypeError(
                f"{name}: expected statistics nested like the {type(space).__name__} space of the observations, got "
                f"{type(statistics).__name__}. Make them with normalize.init, from a shape for each part."
            )
        found = list(statistics) if isinstance(statistics, Mapping) else list(range(len(statistics)))
        if isinstance(statistics, Mapping) != isinstance(space, spaces.Dict) or set(found) != set(keys):
            raise ValueError(f"{name}: expected the parts {quoted(keys)}, as the space has, got {quoted(found)}.")
        parts = (to_arrays(statistics[key], inner, f"{name}/{text}") for key, text, inner in _parts(space))
        return {path: array for part in parts for path, array in part.items()}
    if not isinstance(statistics, normalize.Statistics):
        raise TypeError(f"{name}: expected Statistics, got {type(statistics).__name__}. {_MAKE}.")
    _refuse(statistics, space, name)
    return {f"{name}/{field}": np.asarray(part) for field, part in statistics._asdict().items()}


def from_arrays(
    arrays: Mapping[str, np.ndarray], space: spaces.Space, convert: Callable[[np.ndarray], Any], name: str = PREFIX
) -> normalize.Normalizer:
    """Returns the statistics that `to_arrays` wrote, or None; raises ValueError if they do not fit the space."""
    own = {path: array for path, array in arrays.items() if path.startswith(f"{name}/") or path == name}
    if not own:
        return None
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        known = tuple(f"{name}/{text}/" for _, text, _ in _parts(space))
        unknown = [path for path in own if not path.startswith(known)]
        if unknown:
            raise ValueError(f"{name}: expected only parts of the observation space, got {quoted(unknown)}")
        found = {key: from_arrays(own, inner, convert, f"{name}/{text}") for key, text, inner in _parts(space)}
        return found if isinstance(space, spaces.Dict) else tuple(found.values())
    fields = {path.removeprefix(f"{name}/"): array for path, array in own.items()}
    # A file of an earlier version holds three entries, of integers too, and has the default clip.
    if set(fields) not in (set(_FIELDS), set(_FIELDS[:3])):
        raise ValueError(f"{name}: expected the entries {_FIELDS}, got {quoted(sorted(fields))}")
    if any(array.dtype.kind in "bc" for array in fields.values()):
        raise ValueError(f"{name}: expected arrays of real numbers, got others")
    statistics = normalize.Statistics(*(fields[field] for field in _FIELDS if field in fields))
    _refuse(statistics, space, name)
    return jax.tree.map(convert, statistics)


def _parts(space: spaces.Dict | spaces.Tuple) -> Iterator[tuple[Any, str, spaces.Space]]:
    """Key, text in the names of arrays, and space of each part."""
    items: Any = space.items if isinstance(space, spaces.Dict) else enumerate(space.items)
    for key, inner in items:
        # A slash separates the parts of a name.
        yield key, str(key).replace("%", "%25").replace("/", "%2F"), inner


def _refuse(statistics: normalize.Statistics, space: spaces.Space, name: str) -> None:
    """Raises ValueError unless the statistics are numbers that describe observations of the space."""
    arrays = {field: np.asarray(part) for field, part in statistics._asdict().items()}
    for field, array in arrays.items():
        if not jax.numpy.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name}: expected {field} as floats, got {array.dtype}. {_MAKE}.")
    if not isinstance(space, spaces.Box):
        raise ValueError(f"{name}: expected None for a {type(space).__name__} space, got Statistics. Leave them out.")
    # Observations are normalized either in the shape of the space or flattened.
    allowed = dict.fromkeys([space.shape, (spaces.size(space),)])
    count, mean, m2 = (arrays[field].shape for field in ("count", "mean", "m2"))
    if count != () or mean != m2 or mean not in allowed:
        raise ValueError(
            f"{name}: expected a count of shape () and mean and m2 of shape {' or '.join(map(str, allowed))}, got "
            f"{count}, {mean} and {m2}. Begin with normalize.init(shape), for the shape of one observation."
        )
    others = {"clip": (), "count_rest": (2,), "mean_rest": (2, *mean), "m2_rest": (2, *mean)}
    for field, array in arrays.items():
        if array.shape != others.get(field, array.shape):
            raise ValueError(f"{name}: expected {field} of shape {others[field]}, got {array.shape}. {_MAKE}.")
        least = {"count": "finite and at least 0", "m2": "finite and at least 0", "clip": "above 0"}
        right = array > 0 if field == "clip" else np.isfinite(array) & ((array >= 0) | (field not in least))
        if not right.all():
            raise ValueError(f"{name}: expected {field} {least.get(field, 'finite')}, got {array[~right][0]}. {_MAKE}.")
    for field in ("count", "m2"):
        # A rest is what rounding took off, which is too little to change the sign.
        total = arrays[field] + np.sum(arrays[f"{field}_rest"], axis=0, dtype=np.float64)
        if not (total >= 0).all():
            got = total[total < 0][0]
            raise ValueError(f"{name}: expected {field} with its rest to be at least 0, got {got}. {_MAKE}.")

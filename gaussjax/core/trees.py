"""Comparison of pytrees leaf by leaf, with a sentence for each difference."""

from __future__ import annotations

from typing import Any

import jax

from gaussjax.core.arrays import xp
from gaussjax.core.text import listed

_MAKE_PARAMS = "Make them with policy.init, for the same network and the same spaces."


def check_shapes(value: Any, expected: Any, name: str, repair: str = _MAKE_PARAMS) -> None:
    """Raises ValueError if leaves of a pytree are missing, unexpected or of another shape than expected."""
    faults = differences(_shapes(value), _shapes(expected))
    if faults:
        raise ValueError(f"{name}: expected the leaves of this policy, got others: {listed(faults, '; ')}. {repair}")


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Compares two dicts from paths to leaves; returns a sentence for each missing, unknown or different leaf."""
    faults = [f"{path} is missing (expected {leaf})" for path, leaf in expected.items() if path not in found]
    faults += [f"{path} is unknown (got {leaf})" for path, leaf in found.items() if path not in expected]
    common = ((path, leaf, found[path]) for path, leaf in expected.items() if path in found)
    return faults + [f"{path}: expected {leaf}, got {other}" for path, leaf, other in common if other != leaf]


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    return {jax.tree_util.keystr(path): tuple(xp.shape(leaf)) for path, leaf in leaves}

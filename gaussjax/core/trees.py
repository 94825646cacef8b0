"""Comparison of pytrees leaf by leaf, with a sentence for each difference."""

from __future__ import annotations

from typing import Any

import jax

from gaussjax.core.arrays import xp

_MAKE_PARAMS = "Make them with policy.init, for the same network and the same spaces."


def check_shapes(value: Any, expected: Any, name: str, repair: str = _MAKE_PARAMS) -> None:
    """Refuses a pytree whose leaves differ in path or shape from the expected ones.

    Args:
        value: The pytree to check.
        expected: A pytree of arrays or of `jax.ShapeDtypeStruct`.
        name: What the error calls the pytree.
        repair: Last sentence of the error.

    Raises:
        ValueError: Leaves are missing, unknown or of another shape. The error names each of them.
    """
    faults = differences(_shapes(value), _shapes(expected))
    if faults:
        raise ValueError(f"{name}: the leaves are not those of this policy: {'; '.join(faults)}. {repair}")


def differences(came: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """One sentence for each leaf that is missing, unknown or described differently.

    Args:
        came: Description of each leaf by its path.
        wanted: The expected descriptions.
    """
    faults = [f"{path} is missing (expected {leaf})" for path, leaf in wanted.items() if path not in came]
    faults += [f"{path} is unknown (got {leaf})" for path, leaf in came.items() if path not in wanted]
    return faults + [
        f"{path}: expected {leaf}, got {came[path]}"
        for path, leaf in wanted.items()
        if path in came and came[path] != leaf
    ]


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    return {jax.tree_util.keystr(path): tuple(xp.shape(leaf)) for path, leaf in leaves}

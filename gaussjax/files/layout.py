"""How a policy lies in its file: the number of the format, and a name for each leaf of a tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

FORMAT = 1
_MAKE_DICTS = (
    "A policy file holds dicts with texts for keys and nothing else: give each layer of your network a name of its "
    "own, in place of a list of layers or an nnx.Sequential."
)


def flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """Arrays of NumPy by their names, such as `params/head/bias`."""
    return {name: np.asarray(leaf) for name, leaf in leaves(prefix, tree).items()}


def leaves(prefix: str, tree: Any) -> dict[str, Any]:
    """The leaves of nested dicts by their names.

    Raises:
        ValueError: A key is no text, or holds the slash that joins the names; or there is a list, a tuple, None
            or another node of trees among them.
    """
    if not isinstance(tree, Mapping):
        if not jax.tree_util.all_leaves([tree]):
            raise ValueError(f"{prefix}: expected arrays in nested dicts, got {type(tree).__name__}. {_MAKE_DICTS}")
        return {prefix: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"{prefix}: expected names without '/' as keys, got {name!r}. {_MAKE_DICTS}")
        found |= leaves(f"{prefix}/{name}", value)
    return found


def nest(tensors: Mapping[str, np.ndarray], prefix: str, convert: Callable[[np.ndarray], Any]) -> Any:
    """The tree of the arrays whose names begin with the prefix; {} where there are none."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        if name == prefix:
            return convert(value)
        first, *folders = name.split("/")
        if first == prefix:
            *folders, leaf = folders
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[leaf] = convert(value)
    return tree

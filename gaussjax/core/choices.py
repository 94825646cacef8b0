"""Choices by name from a table, with an error that suggests the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def choose(table: Mapping[str, Any], name: Any, what: str) -> Any:
    """The entry of a table by its name, or a ValueError that calls the choice `what`.

    Example:
        >>> choose({"relu": 1, "tanh": 2}, "tanh", "activation")
        2
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise ValueError(f"{what}: expected one of {sorted(table)}, got {name!r}.{nearest(name, table)}")


def nearest(name: Any, names: Iterable[str]) -> str:
    """A sentence that suggests the name nearest to a wrong one, or an empty string.

    Example:
        >>> nearest("rely", ["relu", "tanh"])
        " Did you mean 'relu'?"
    """
    near = difflib.get_close_matches(str(name), list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

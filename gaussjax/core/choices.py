"""Choice by name from a table, and an error for a wrong name that suggests the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def choose(table: Mapping[str, Any], name: Any, what: str) -> Any:
    """Returns the table entry for a name; an unknown name raises a ValueError whose text starts with `what`.

    Example:
        >>> choose({"relu": 1, "tanh": 2}, "tanh", "activation")
        2
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise ValueError(f"{what}: expected one of {sorted(table)}, got {name!r}.{nearest(name, table)}")


def nearest(name: Any, names: Iterable[str]) -> str:
    """Sentence that suggests the known name nearest to a wrong one; empty if no name is near.

    Example:
        >>> nearest("rely", ["relu", "tanh"])
        " Did you mean 'relu'?"
    """
    near = difflib.get_close_matches(str(name), list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""

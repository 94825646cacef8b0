"""Choice by name from a table, and an error for a wrong name that suggests the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from gaussjax.core.text import quoted

# The time of a comparison grows with the square of the length.
_LONGEST_NAME = 100


def choose(table: Mapping[str, Any], name: Any, what: str) -> Any:
    """Returns the table entry for a name; an unknown name raises a ValueError whose text starts with `what`.

    Example:
        >>> choose({"relu": 1, "tanh": 2}, "tanh", "activation")
        2
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise ValueError(f"{what}: expected one of {quoted(sorted(table))}, got {quoted(name)}.{nearest(name, table)}")


def nearest(name: Any, names: Iterable[str]) -> str:
    """Sentence that suggests the known name nearest to a wrong one; empty if no name is near.

    Example:
        >>> nearest("rely", ["relu", "tanh"])
        " Did you mean 'relu'?"
    """
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return ""
    names = list(names)
    longer = [one for one in names if len(name) > 2 and one.lower().startswith(name.lower())]
    near = difflib.get_close_matches(name, names, n=1) or longer
    return f" Did you mean {near[0]!r}?" if near else ""

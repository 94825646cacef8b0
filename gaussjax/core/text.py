"""Text of errors and terminals: characters from files are escaped, and long lists and values are shortened."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any

_MOST_ITEMS = 20
_MOST_CHARACTERS = 300
_LONGEST_ERROR = 5000

_short = reprlib.Repr()
_short.maxlevel = 3
_short.maxlist = _short.maxtuple = _short.maxdict = _short.maxset = _MOST_ITEMS
_short.maxstring = _short.maxlong = _short.maxother = _MOST_CHARACTERS


class FileError(ValueError):
    """An error about the content of a file; its text is one line, because parts of it may come from the file."""

    def __init__(self, text: str):
        super().__init__(shortened(printable(text), _LONGEST_ERROR))


def printable(text: Any, keep: str = "") -> str:
    r"""Escapes all characters that a terminal or an editor could act on, such as ESC, line ends and bidi controls.

    Args:
        text: Text, or any object.
        keep: Characters that stay as they are.

    Example:
        >>> printable("\x1b[31mrobot\u202e")
        '\\x1b[31mrobot\\u202e'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = _MOST_CHARACTERS) -> str:
    """The first `most` characters of a text, and the number of the others."""
    return text if len(text) <= most else f"{text[:most]} … and {len(text) - most:,} more characters"


def quoted(value: Any) -> str:
    """The `repr` of a value; long and nested values are shortened, and a list has its first 20 items and a count.

    Example:
        >>> quoted(list(range(100)))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 80 more]'
    """
    try:
        if type(value) in (list, tuple) and len(value) > _MOST_ITEMS:
            opening, closing = "[]" if type(value) is list else "()"
            return f"{opening}{listed(map(_short.repr, value))}{closing}"
        return shortened(_short.repr(value))
    except ValueError:  # Python refuses to write integers of more than 4300 digits.
        return f"a {type(value).__name__} with too many digits"


def listed(items: Iterable[Any], separator: str = ", ") -> str:
    """The first 20 items in one text, and the number of the others.

    Example:
        >>> listed(range(22))
        '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 2 more'
    """
    items = list(items)
    parts = [shortened(item if isinstance(item, str) else quoted(item)) for item in items[:_MOST_ITEMS]]
    more = f" and {len(items) - len(parts):,} more" if len(items) > len(parts) else ""
    return separator.join(parts) + more

"""Bounds for content from files, which may be damaged or hostile.

Every reader of gaussjax keeps one promise: it takes at most 10 times the size of the file and 256 MB of memory, and at
most 10 s for a file of 1 MB; or it raises an error that names the file.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from gaussjax.core.text import FileError, printable

DEEPEST = 50
# Bytes that content may take: a multiple of the file's size, and a constant that leaves room for the reader itself.
_TIMES, _SLACK = 10, 128 * 2**20
_JSON_SLACK = 224 * 2**20
_MOST_PARTS, _LARGEST_DIRECTORY = 20_000, 2**25
# Bytes that Python's objects take for a character of JSON, at most: dicts, lists, entries, names and texts.
_JSON_BYTES = {"{": 240, "[": 90, ",": 40, ":": 80, '"': 30}


@contextlib.contextmanager
def opened(
    path: Path, error: type[ValueError] = FileError, whole: bool = True
) -> Iterator[tuple[io.BufferedReader, int]]:
    """Opens a regular file; yields it with its size in bytes.

    Args:
        path: Path of the file.
        error: Class of the error that is raised for a device, a FIFO, a socket, a file larger than the memory, or a
            name with a NUL character.
        whole: False for a file that is never read as a whole, so that it may be larger than the memory.

    Raises:
        OSError: The file cannot be opened or is a folder.
    """
    if "\0" in str(path):
        raise error(f"{printable(path)}: expected a name without NUL characters. Correct the path.")
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: expected a regular file, got a device, a FIFO or a socket. Copy it to a file first.")
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if whole and status.st_size > memory:
            raise error(f"{path}: expected a file that fits into {memory:,} bytes of memory, got {status.st_size:,}.")
        yield file, status.st_size


class _Directory:
    """A zip file whose directory is read with limits, because it could take many times its size in memory."""

    def __init__(self, file: BinaryIO):
        self.file, self.seek, self.tell, self.seekable = file, file.seek, file.tell, file.seekable
        self.limited = True

    def read(self, size: int = -1) -> bytes:
        if not self.limited:
            return self.file.read(size)
        content = self.file.read(_LARGEST_DIRECTORY + 1 if size < 0 else min(size, _LARGEST_DIRECTORY + 1))
        count = content.count(b"PK\x01\x02")
        if count > _MOST_PARTS:
            raise ValueError(f"expected a zip of at most {_MOST_PARTS:,} entries, got {count:,}")
        if len(content) > _LARGEST_DIRECTORY:
            raise ValueError(f"expected a zip whose directory takes at most {_LARGEST_DIRECTORY:,} bytes, got more")
        return content


def open_zip(file: BinaryIO | bytes) -> zipfile.ZipFile:
    """Opens a zip; raises ValueError for a zip of too many entries, whose directory would take many times its size."""
    directory: Any = _Directory(io.BytesIO(file) if isinstance(file, bytes) else file)
    archive = zipfile.ZipFile(directory)
    directory.limited = False
    return archive


def budget(size: int) -> int:
    """Bytes that the content of a file of `size` bytes may take."""
    return _TIMES * size + _SLACK


def refuse_swollen(text: str) -> None:
    """Raises ValueError if a JSON text would take too much memory when it is parsed."""
    taken = sum(count * text.count(character) for character, count in _JSON_BYTES.items())
    # One wide character makes all characters of a text four bytes long.
    most = _JSON_SLACK + (7 if text.isascii() else 3) * len(text)
    if taken > most:
        raise ValueError(f"expected JSON that takes at most {most:,} bytes of memory, got {taken:,}")


def refuse_large(tree: Any, most: int, most_bytes: int | None = None, deepest: int = DEEPEST) -> None:
    """Raises ValueError for nested lists and dicts with too many entries, too many bytes, or too deep nesting.

    A list that occurs several times counts each time, and a list inside itself is too deep.

    Args:
        tree: Nested lists and dicts.
        most: Largest number of entries.
        most_bytes: Largest number of bytes in all arrays and texts, or None.
        deepest: Largest number of lists and dicts within each other.
    """
    count, size, nodes = 0, 0, [(iter([tree]), 0)]
    while nodes:
        children, depth = nodes[-1]
        node = next(children, nodes)
        if node is nodes:
            nodes.pop()
            continue
        count += 1
        size += getattr(node, "nbytes", 0) or (len(node) if isinstance(node, (str, bytes)) else 0)
        inside = _children(node)
        if count > most or (inside is not None and depth >= deepest):
            raise ValueError(f"expected at most {most:,} entries that are nested at most {deepest} deep, got more")
        if most_bytes is not None and size > most_bytes:
            raise ValueError(f"expected at most {most_bytes:,} bytes in the entries of this file, got more")
        if inside is not None:
            nodes.append((iter(inside), depth + 1))


def _children(node: Any) -> Iterable[Any] | None:
    if isinstance(node, Mapping):
        return node.values()
    if isinstance(node, (list, tuple)):
        return node
    # A node of PyYAML has a list of nodes, or a list of pairs of nodes.
    value = getattr(node, "value", None)
    return value if isinstance(value, list) else None

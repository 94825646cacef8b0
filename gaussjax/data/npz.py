"""Reading of zips of NumPy arrays; nothing in them is executed, and large uncompressed arrays stay on disk."""

from __future__ import annotations

import math
import os
import weakref
import zipfile
from typing import Any, BinaryIO

import numpy as np

from gaussjax.core import untrusted
from gaussjax.data.episodes import FIELDS, IN_MEMORY, Rows

_LONGEST_HEADER = 10_000
# Bytes of a zip's local header before the name of the entry.
_LOCAL_HEADER = 30


def read(file: BinaryIO, size: int) -> dict[str, Any]:
    """Reads the arrays of a zip by their names, and compares all sizes before anything is read.

    Raises:
        ValueError: The zip holds objects, an array of another size than its header says, entries that overlap, or
            compressed arrays of more than 10 times its size and 128 MiB.
    """
    with untrusted.open_zip(file) as archive:
        # The other arrays are not read; errors list their names.
        arrays: dict[str, Any] = {_top(entry): None for entry in archive.infolist() if _top(entry) not in FIELDS}
        entries = [entry for entry in archive.infolist() if _top(entry) in FIELDS]
        stored = [entry for entry in entries if entry.compress_type == zipfile.ZIP_STORED]
        if sum(entry.file_size for entry in stored) > size:
            raise ValueError("expected entries that do not overlap, got others")
        large, taken = sum(entry.file_size for entry in entries) > IN_MEMORY, 0
        for entry in entries:
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"{name} occurs twice")
            with archive.open(entry) as opened:
                shape, fortran, dtype, start = _header(opened)
                count = math.prod(shape)
                if dtype.hasobject or count * dtype.itemsize != entry.file_size - start:
                    raise ValueError(f"{name} has {dtype} of shape {shape} in {entry.file_size - start} bytes")
                if large and entry.compress_type == zipfile.ZIP_STORED and shape:
                    if fortran and len(shape) > 1:
                        raise ValueError(f"{name} lies in columns. Save np.ascontiguousarray({name})")
                    arrays[name] = _on_disk(file, size, entry, start, shape, dtype)
                    continue
                # The array itself, a copy as float32, and a look for infinities.
                taken += count * (dtype.itemsize + 4 + 1)
                if taken > untrusted.budget(size):
                    raise ValueError(f"arrays of more than {untrusted.budget(size):,} bytes. Save them uncompressed")
                array = np.frombuffer(opened.read(count * dtype.itemsize), dtype)
                arrays[name] = array.reshape(shape, order="F" if fortran else "C")
    return arrays


def _top(entry: zipfile.ZipInfo) -> str:
    return entry.filename.removesuffix(".npy").partition("/")[0]


def _header(opened: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and dtype of an array in NumPy's format, and the place of its first number in the entry."""
    version = np.lib.format.read_magic(opened)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return *read[version](opened, max_header_size=_LONGEST_HEADER), opened.tell()


def _on_disk(
    file: BinaryIO, size: int, entry: zipfile.ZipInfo, start: int, shape: tuple[int, ...], dtype: np.dtype
) -> Rows:
    """Rows of an uncompressed entry, read from their place in the file."""
    file.seek(entry.header_offset)
    local = file.read(_LOCAL_HEADER)
    # The entry has a name and further fields before its content, whose lengths the local header ends with.
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    begin = entry.header_offset + _LOCAL_HEADER + lengths + start
    width = math.prod(shape[1:]) * dtype.itemsize
    if entry.flag_bits & 1 or begin + shape[0] * width > size:
        raise ValueError(f"{entry.filename} ends after the file")
    handle = os.dup(file.fileno())

    def read(first: int, stop: int) -> np.ndarray:
        # Pages of a memory map would count as memory of this process.
        block = np.empty((stop - first, *shape[1:]), dtype)
        content: Any = block.reshape(-1).view(np.uint8)
        view, offset = memoryview(content), begin + first * width
        while len(view):
            count = os.preadv(handle, [view], offset)
            if not count:
                raise ValueError(f"{entry.filename}: expected {shape[0]:,} rows, got fewer. The file has changed.")
            view, offset = view[count:], offset + count
        return block

    rows = Rows(shape, dtype, read)
    weakref.finalize(rows, os.close, handle)
    return rows

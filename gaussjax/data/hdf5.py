"""Reading of HDF5 files in the layouts of D4RL, robomimic and Minari, and in our own; their arrays stay on disk."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from gaussjax.core import untrusted
from gaussjax.core.text import FileError, listed, printable, quoted
from gaussjax.data.episodes import FIELDS, Rows

# Filters that are part of HDF5 or h5py. Others are plugins, which are code.
_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
# Each group and dataset takes at least this number of bytes of a file.
_LEAST_BYTES = 64


def read(file: BinaryIO, size: int) -> dict[str, Any] | list[tuple[str, dict[str, Any]]]:
    """Reads the arrays of a file by their names, or the arrays of each episode with the name of its group.

    Raises:
        ValueError: The file has links to other names or files, arrays outside itself, objects, texts or filters of
            plugins; or its arrays take more than 10 times its size and 128 MiB.
        ModuleNotFoundError: h5py is not installed.
    """
    opened = _Reader(imported().File(file.name, "r", locking=False), size)
    names = list(opened.root)
    groups = [name for name in names if re.fullmatch(r"episode_\d+", name)]
    if "data" in names and not FIELDS & {*names}:
        data = opened.group(opened.root, "data")
        return [(f"data/{name}", opened.fields(opened.group(data, name))) for name in _ordered(data)]
    if groups:
        return [(name, opened.fields(opened.group(opened.root, name))) for name in _ordered(groups)]
    return opened.fields(opened.root)


def imported() -> Any:
    """The package h5py, which only HDF5 files need."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "dataset: expected the package h5py, which HDF5 files need, got none. Install it: pip install "
            "'gaussjax[hdf5]'",
            name="h5py",
        ) from error
    return h5py


def _ordered(names: Any) -> list[str]:
    """Names in the order of the numbers in them: demo_2 before demo_10."""
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


class _Reader:
    """An open file, with the number of its visited objects and the bytes of its arrays."""

    def __init__(self, root: Any, size: int):
        self.root, self.size, self.visited, self.stored, self.taken = root, size, 0, 0, 0

    def item(self, group: Any, name: str) -> Any:
        """A group or dataset of this very file."""
        self.visited += 1
        if self.visited * _LEAST_BYTES > self.size:
            raise FileError(f"expected at most {self.size // _LEAST_BYTES:,} groups and arrays, got more")
        h5py = imported()
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise FileError(f"expected {quoted(name)} in the file itself, got a {type(link).__name__}. Copy it there")
        return group[name]

    def group(self, parent: Any, name: str) -> Any:
        """A group of this very file."""
        found = self.item(parent, name)
        if not isinstance(found, imported().Group):
            raise FileError(f"expected {quoted(name)} as a group, got a {type(found).__name__}")
        return found

    def fields(self, group: Any) -> dict[str, Any]:
        """Arrays of the known fields of a group, with slashes in the names of their parts; None for other names."""
        found: dict[str, Any] = {}
        for name in group:
            found[name] = None
            if name in FIELDS:
                del found[name]
                found.update(self.arrays(self.item(group, name), name, 0))
        return found

    def arrays(self, item: Any, name: str, depth: int) -> Iterator[tuple[str, Rows]]:
        """Yields the arrays of a group and of the groups in it."""
        if depth > untrusted.DEEPEST:
            raise FileError(f"expected at most {untrusted.DEEPEST} groups within each other, got more")
        if isinstance(item, imported().Dataset):
            yield name, self.rows(item, name)
            return
        if not isinstance(item, imported().Group):
            raise FileError(f"expected {name} as an array or a group, got a {type(item).__name__}")
        for part in item:
            yield from self.arrays(self.item(item, part), f"{name}/{part}", depth + 1)

    def rows(self, dataset: Any, name: str) -> Rows:
        """Rows of a dataset that needs neither another file nor a plugin; raises FileError for others."""
        settings = dataset.id.get_create_plist()
        filters = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
        bytes_, stored = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize, dataset.id.get_storage_size()
        if dataset.external or dataset.is_virtual:
            raise FileError(f"expected {name} in the file itself, got an array that lies in other files. Copy it there")
        if dataset.dtype.kind not in "fiub" or dataset.dtype.hasobject or not dataset.shape:
            raise FileError(
                f"expected {name} as an array of real numbers, got {dataset.dtype} of shape {dataset.shape}. Read "
                f"compressed pictures of Minari as minari:NAME"
            )
        if filters - {*_FILTERS}:
            numbers = listed(sorted(map(str, filters - {*_FILTERS})))
            raise FileError(f"expected {name} with filters among {listed(_FILTERS.values())}, got number {numbers}")
        self.stored += stored
        if self.stored > self.size:
            raise FileError("expected arrays that do not overlap, got others")
        if stored < bytes_ or filters:
            # The array itself, a copy as float32, and a look for infinities.
            self.taken += bytes_ + 5 * math.prod(dataset.shape)
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        if max(self.taken, chunk) > untrusted.budget(self.size):
            raise FileError(f"arrays of more than {untrusted.budget(self.size):,} bytes. Save them uncompressed")

        def read(start: int, stop: int) -> np.ndarray:
            try:
                return dataset[start:stop]
            except OSError as error:
                raise FileError(
                    f"dataset: {printable(self.root.filename)}: {name} cannot be read ({error})."
                ) from error

        return Rows(dataset.shape, dataset.dtype, read)

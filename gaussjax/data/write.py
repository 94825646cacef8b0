"""Writing of episodes as a zip of NumPy arrays or as an HDF5 file."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gaussjax.core import atomic_file
from gaussjax.core.text import quoted
from gaussjax.data import hdf5
from gaussjax.data.checks import arrays_of
from gaussjax.data.episodes import NAMES, Episodes, chunks

_WRITTEN = {**{field: names[0] for field, names in NAMES.items()}, "terminated": "terminations"}
_WRITTEN["truncated"] = "truncations"


def write(path: str | Path, episodes: Episodes) -> None:
    """Writes episodes to a file that `read_dataset` reads; if that fails, an older file is unchanged.

    The arrays have the names `observations`, `actions`, `starts`, `rewards`, `terminations`, `truncations` and
    `weights`; those of a Dict space are named `observations/NAME`. They are not compressed.

    Args:
        path: Path of the file, which ends in `.npz`, `.hdf5` or `.h5`.
        episodes: Episodes in memory or on disk.

    Raises:
        TypeError: `episodes` is something else, such as a list.
        ValueError: The path has another ending, a leaf is no array of real numbers, or the name of an observation has
            a slash.
        OSError: The file cannot be written.
        ModuleNotFoundError: The format needs h5py.

    Example:
        >>> import tempfile
        >>> from gaussjax.data import read_dataset
        >>> path = Path(tempfile.mkdtemp()) / "recorded.npz"
        >>> write(path, Episodes(np.zeros((5, 2), np.float32), np.zeros((5, 1), np.float32)))
        >>> read_dataset(path).observations.shape
        (5, 2)
    """
    path, leaves = Path(path), {}
    if not isinstance(episodes, Episodes):
        raise TypeError(
            f"episodes: expected Episodes, got {type(episodes).__name__}. Give the result of read_dataset for it."
        )
    for field, tree in arrays_of(episodes, "episodes")._asdict().items():
        leaves.update(_leaves(_WRITTEN[field], tree))
    suffix = path.suffix.lower()
    if suffix not in (".npz", ".hdf5", ".h5"):
        raise ValueError(f"path: expected a name that ends in .npz, .hdf5 or .h5, got {quoted(str(path))}.")
    if suffix != ".npz":
        hdf5.imported()
    atomic_file.write(path, lambda file: (_write_npz if suffix == ".npz" else _write_hdf5)(file, leaves))


def _leaves(name: str, tree: Any) -> dict[str, Any]:
    """Arrays of a pytree by their names, with slashes between the names of parts."""
    if isinstance(tree, tuple):
        tree = {f"_index_{i}": part for i, part in enumerate(tree)}
    if not isinstance(tree, Mapping):
        if tree is None:
            return {}
        # Neither format has bfloat16.
        return {name: tree.astype(np.float32) if tree.dtype.name == "bfloat16" else tree}
    found: dict[str, Any] = {}
    for part, inner in tree.items():
        if "/" in str(part):
            raise ValueError(f"observations: expected names without a slash, got {quoted(part)}. Rename the part.")
        found.update(_leaves(f"{name}/{part}", inner))
    return found


def _write_npz(file: BinaryIO, leaves: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, leaf in leaves.items():
            header = {"descr": np.lib.format.dtype_to_descr(leaf.dtype), "fortran_order": False, "shape": leaf.shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                for part in chunks(leaf):
                    entry.write(np.ascontiguousarray(leaf[part]).tobytes())


def _write_hdf5(file: BinaryIO, leaves: Mapping[str, Any]) -> None:
    with hdf5.imported().File(file, "w") as opened:
        for name, leaf in leaves.items():
            dataset = opened.create_dataset(name, leaf.shape, leaf.dtype)
            for part in chunks(leaf):
                dataset[part] = leaf[part]

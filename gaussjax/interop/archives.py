"""Zips that torch.save and Stable-Baselines3 write, as bytes and arrays; nothing in them is executed."""

from __future__ import annotations

import zipfile
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from gaussjax.core import untrusted
from gaussjax.interop import pickles


def parts(file: BinaryIO | bytes, size: int) -> dict[str, bytes]:
    """Returns the entries of a zip of `size` bytes by name; raises ValueError for compressed or overlapping entries."""
    with untrusted.open_zip(file) as archive:
        entries = archive.infolist()
        if any("/code/" in entry.filename for entry in entries):
            raise ValueError("a program of TorchScript (the zip has code/), which holds code in place of a checkpoint")
        # torch compresses nothing. Entries that overlap would be longer than the file together.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed entry")
        if sum(entry.file_size for entry in entries) > size or len(set(archive.namelist())) < len(entries):
            raise ValueError("entries that overlap")
        return {entry.filename: _entry(archive, entry) for entry in entries}


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged bytes in {entry.filename}") from error


def read_torch(file: BinaryIO | bytes, size: int) -> Any:
    """Reads a zip that torch.save wrote: plain data and arrays; bfloat16 becomes float32."""
    found = parts(file, size)
    name = next((name for name in found if name.endswith("/data.pkl")), None)
    if name is None:
        raise ValueError("a zip without data.pkl")
    folder = name.removesuffix("data.pkl")
    if found.get(f"{folder}byteorder", b"little") != b"little":
        raise ValueError("numbers in big-endian byte order")
    converted: dict[Any, np.ndarray] = {}

    def storage(pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(key, str) or not isinstance(dtype, pickles.Global):
            raise ValueError("a reference to something outside the file")
        if (dtype, key) not in converted:
            array = np.frombuffer(found[f"{folder}data/{key}"], pickles.STORAGES[dtype])
            converted[dtype, key] = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
        return converted[dtype, key][:count]

    return pickles.unpickle(found[name], pickles.TORCH, storage)

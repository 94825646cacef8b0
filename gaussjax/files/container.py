"""Files of named arrays and a JSON description, written atomically and verified by a digest.

The format is safetensors, which other programs can read. Its metadata holds the description and a sha256 digest of
the whole file, so that any change of a bit is detected. Nothing in a file is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from gaussjax.core import atomic_file, untrusted
from gaussjax.core.text import FileError, quoted

_NO_DIGEST = "0" * 64
# Form of the digest in a file's header. This text occurs only once, since JSON escapes quotes in the description.
_DIGEST_FIELD = '"sha256":"{}"'
# NumPy dtypes by their names in a file. The NumPy reader of safetensors has no bfloat16, so it is not used.
_FLOATS = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
_SIGNED = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}
_UNSIGNED = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_DTYPES: dict[str, Any] = {**_FLOATS, **_SIGNED, **_UNSIGNED, "BOOL": np.bool_}
_MOST_AXES = 32
# A checkpoint may hold the states of environments, which are large and nested.
_MOST_ENTRIES, _DEEPEST = 10**7, 300
_EXPECTED = "expected a file written by gaussjax, got"


class PolicyFileError(FileError):
    """Raised if a file is damaged, is no policy file, or does not fit this version of gaussjax or the network."""


def place(file: Any) -> Any:
    """Returns an open file unchanged, and a path as a `Path`; raises TypeError for anything else."""
    if hasattr(file, "read") or hasattr(file, "write"):
        return file
    if not isinstance(file, (str, os.PathLike)):
        raise TypeError(f"path: expected a path or a binary file, got {type(file).__name__}. The path comes first.")
    return Path(file)


def write(path: Any, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a file of arrays, a description and library versions; if that fails, an older file is unchanged."""
    import safetensors.numpy  # Imported on first use, because few programs write a file.

    # Arrays are made contiguous, because safetensors ignores strides and would scramble a transposed view.
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in tensors.items()}
    other = {name: str(array.dtype) for name, array in arrays.items() if array.dtype not in _DTYPES.values()}
    if other:
        raise TypeError(f"{path}: expected arrays of numbers, got {quoted(other)}. Convert them first.")
    # A copy on Python's path, without an installed package, has its version in the module only.
    versions = {name: sys.modules[name].__version__ for name in ("gaussjax", "jax", "flax")}
    text = json.dumps({**description, "versions": versions}, sort_keys=True)
    refuse_large(description, f"{path}: the description", text)
    payload = safetensors.numpy.save(arrays, {"gaussjax": text, "sha256": _NO_DIGEST})
    payload = _with_digest(payload, _NO_DIGEST, hashlib.sha256(payload).hexdigest())
    if isinstance(path, Path):
        atomic_file.write(path, payload)
    else:
        path.write(payload)


def read(path: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the description of a file; raises PolicyFileError unless `write` made the file."""
    with _opened(path) as (file, size):
        try:
            head, header = _read_header(file, size, path)
            metadata = header.pop("__metadata__")
            digest, text = metadata["sha256"], metadata["gaussjax"]
            untrusted.refuse_swollen(text)
            found = hashlib.sha256(_with_digest(head, digest, _NO_DIGEST))
        except PolicyFileError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            fault = f"{path}: {_EXPECTED} a header without its description. It may be damaged."
            raise PolicyFileError(fault) from error
        data = file.read(size - len(head))
    found.update(data)
    if found.hexdigest() != digest:
        raise PolicyFileError(f"{path}: {_EXPECTED} bytes with another sha256 than in its header. Copy the file again.")
    try:
        description = json.loads(text)
        untrusted.refuse_large(description, _MOST_ENTRIES, deepest=_DEEPEST)
        tensors = _tensors(header, data)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyFileError(f"{path}: expected a description and arrays of numbers, got others ({error}).") from error
    if not isinstance(description, dict):
        raise PolicyFileError(f"{path}: {_EXPECTED} a description that is not a dict. Save it again.")
    return tensors, description


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[tuple[BinaryIO, int]]:
    """Yields a file and its size; an open file is read as a whole, because its size is unknown."""
    if isinstance(path, Path):
        with untrusted.opened(path, PolicyFileError) as opened:
            yield opened
        return
    payload = path.read()
    if not isinstance(payload, bytes):
        raise TypeError(f"{path}: expected a file opened for bytes, got text. Open it with mode 'rb'.")
    yield io.BytesIO(payload), len(payload)


def _read_header(file: BinaryIO, size: int, path: Any) -> tuple[bytes, dict[str, Any]]:
    """Reads the bytes before the arrays, and the table of arrays in them."""
    start = file.read(8)
    if start[:2] == b"PK":
        raise PolicyFileError(
            f"{path}: {_EXPECTED} a zip, as torch.save writes it. gaussjax.interop.skrl.read opens skrl's checkpoints."
        )
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise PolicyFileError(f"{path}: {_EXPECTED} {size} bytes that end too early. Copy the file again.")
    head = start + file.read(length)
    text = str(memoryview(head)[8:], "utf-8")
    untrusted.refuse_swollen(text)
    return head, json.loads(text)


def _tensors(header: Mapping[str, Any], data: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a table; together they must cover the data, without gaps and overlaps."""
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if not all(type(n) is int and n >= 0 for n in (*shape, start, stop)) or len(shape) > _MOST_AXES:
            raise ValueError(f"{name}: expected sizes of zero or more on at most {_MOST_AXES} axes")
        if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > len(data):
            raise ValueError(f"{name}: expected {math.prod(shape)} numbers at byte {end}")
        tensors[name], end = np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape), stop
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes that belong to no array")
    return tensors


def refuse_large(description: Any, name: str, text: str = "") -> None:
    """Raises ValueError for a description, and its JSON text, that `read` would refuse."""
    try:
        untrusted.refuse_large(description, _MOST_ENTRIES, deepest=_DEEPEST)
        untrusted.refuse_swollen(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}. Save less metadata.") from error


def refuse_nan(tensors: Mapping[str, np.ndarray], path: Any) -> None:
    """Raises PolicyFileError if arrays hold NaN; the error names them."""
    broken = [name for name, value in tensors.items() if np.isnan(value).any()]
    if broken:
        raise PolicyFileError(
            f"{path}: expected numbers, got NaN in {quoted(broken)}. Save the last good parameters instead."
        )


def _with_digest(payload: bytes, old: str, new: str) -> bytes:
    return payload.replace(_DIGEST_FIELD.format(old).encode(), _DIGEST_FIELD.format(new).encode(), 1)

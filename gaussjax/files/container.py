"""Files of named arrays and a JSON description, written atomically and verified by a digest.

The format is safetensors, which other programs can read. Its metadata holds the description and a sha256 digest of
the whole file, so that any change of a bit is detected. Nothing in a file is executed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gaussjax.core import atomic_file

_NO_DIGEST = "0" * 64
# Form of the digest in a file's header. This text occurs only once, since JSON escapes quotes in the description.
_DIGEST_FIELD = '"sha256":"{}"'
# NumPy dtypes by their names in a file. The NumPy reader of safetensors has no bfloat16, so it is not used.
_FLOATS = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
_SIGNED = {"I8": np.int8, "I16": np.int16, "I32": np.int32, "I64": np.int64}
_UNSIGNED = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}
_DTYPES: dict[str, Any] = {**_FLOATS, **_SIGNED, **_UNSIGNED, "BOOL": np.bool_}


class PolicyFileError(ValueError):
    """Raised if a file is damaged, is no policy file, or does not fit this version of gaussjax or the network."""


def place(file: Any) -> Any:
    """Returns an open file unchanged, and a path as a `Path`."""
    return file if hasattr(file, "read") or hasattr(file, "write") else Path(file)


def write(path: Any, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> None:
    """Writes a file of arrays, a description and library versions; if that fails, an older file is unchanged."""
    import safetensors.numpy  # Imported on first use, because few programs write a file.

    # Arrays are made contiguous, because safetensors ignores strides and would scramble a transposed view.
    arrays = {name: np.ascontiguousarray(array).reshape(np.shape(array)) for name, array in tensors.items()}
    other = {name: str(array.dtype) for name, array in arrays.items() if array.dtype not in _DTYPES.values()}
    if other:
        raise TypeError(f"{path}: expected arrays of numbers, got {other}. Convert them first.")
    versions = {name: importlib.metadata.version(name) for name in ("gaussjax", "jax", "flax")}
    text = json.dumps({**description, "versions": versions}, sort_keys=True)
    payload = safetensors.numpy.save(arrays, {"gaussjax": text, "sha256": _NO_DIGEST})
    payload = _with_digest(payload, _NO_DIGEST, hashlib.sha256(payload).hexdigest())
    if isinstance(path, Path):
        atomic_file.write(path, payload)
    else:
        path.write(payload)


def read(path: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the description of a file; raises PolicyFileError unless `write` made the file."""
    import safetensors

    payload = path.read_bytes() if isinstance(path, Path) else path.read()
    if not isinstance(payload, bytes):
        raise TypeError(f"{path}: expected a file opened for bytes, got text. Open it with mode 'rb'.")
    description = _verified_description(payload, path)
    try:
        tensors = {
            name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in safetensors.deserialize(payload)
        }
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise PolicyFileError(f"{path}: expected arrays of numbers, got other data ({error}).") from error
    return tensors, description


def refuse_nan(tensors: Mapping[str, np.ndarray], path: Any) -> None:
    """Raises PolicyFileError if arrays hold NaN; the error names all of them."""
    broken = [name for name, value in tensors.items() if np.isnan(value).any()]
    if broken:
        raise PolicyFileError(f"{path}: expected numbers, got NaN in {broken}. Save the last good parameters instead.")


def _verified_description(payload: bytes, path: Any) -> dict[str, Any]:
    damaged = f"{path}: expected a file written by gaussjax, got"
    if payload[:2] == b"PK":
        raise PolicyFileError(
            f"{damaged} a zip, as torch.save writes it. gaussjax.interop.skrl.read opens skrl's checkpoints."
        )
    length = int.from_bytes(payload[:8], "little")
    if len(payload) < 8 or length > len(payload) - 8:
        raise PolicyFileError(f"{damaged} {len(payload)} bytes that end too early. Copy the file again.")
    try:
        header = json.loads(payload[8 : 8 + length])
        digest = header["__metadata__"]["sha256"]
        text = header["__metadata__"]["gaussjax"]
        found = hashlib.sha256(_with_digest(payload, digest, _NO_DIGEST)).hexdigest()
        description = json.loads(text) if found == digest else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyFileError(f"{damaged} a header without its description. It may be damaged.") from error
    if found != digest:
        raise PolicyFileError(f"{damaged} bytes with another sha256 than in its header. Copy the file again.")
    if not isinstance(description, dict):
        raise PolicyFileError(f"{damaged} a description that is not a dict. Save it again.")
    return description


def _with_digest(payload: bytes, old: str, new: str) -> bytes:
    return payload.replace(_DIGEST_FIELD.format(old).encode(), _DIGEST_FIELD.format(new).encode(), 1)

"""The formats of skrl's checkpoints as data; no code of a file is run."""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import jax.numpy as jnp
import msgpack
import numpy as np
from flax.traverse_util import flatten_dict

from gaussjax.interop import archives, converted, pickles

# Longest map of Flax, which bounds the memory of unfinished maps, and most axes of an array.
_MOST_NAMES, _MOST_AXES = 2000, 32
_INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("bfloat16", "float16", "float32", "float64")


def read_torch(file: BinaryIO) -> Any:
    """Reads a zip that torch.save wrote: plain data and arrays; bfloat16 becomes float32."""
    return archives.read_torch(file, os.fstat(file.fileno()).st_size)


def read_pickle(file: BinaryIO) -> Any:
    """Reads an agent in JAX: a pickled dict of modules in bytes, or the bytes of one module."""
    content = pickles.unpickle(file.read())
    modules = content if isinstance(content, dict) else {"": content}
    if not all(isinstance(part, bytes) for part in modules.values()):
        raise ValueError("something other than modules in bytes")
    # A pickle can name one module several times.
    if sum(map(len, modules.values())) > file.tell():
        raise ValueError("modules that are longer than the file")
    entries = [0]
    read = {name: _unpack(part, entries) for name, part in modules.items()}
    return read if isinstance(content, dict) else read[""]


def read_flax(file: BinaryIO) -> Any:
    """Reads a model in JAX: arrays in nested dicts as MessagePack, which become one dict."""
    return _unpack(file.read(), [0])


def _unpack(payload: bytes, entries: list[int]) -> Any:
    """Reads MessagePack of Flax; `entries` counts the entries of all maps."""

    def counted(tree: dict[str, Any]) -> dict[str, Any]:
        entries[0] += len(tree) + 1
        if entries[0] > converted.MOST_ENTRIES:
            raise ValueError(f"more than {converted.MOST_ENTRIES:,} entries")
        return tree

    # Flax writes dicts in place of lists. Space for a list would be reserved before its entries are read.
    limits = {"max_array_len": 0, "max_map_len": _MOST_NAMES}
    tree = msgpack.unpackb(payload, ext_hook=_array, object_hook=counted, raw=False, strict_map_key=True, **limits)
    tree = tree["params"] if isinstance(tree, dict) and set(tree) == {"params"} else tree
    return flatten_dict(tree, sep=".") if isinstance(tree, dict) else {"": tree}


def _array(code: int, data: bytes) -> np.ndarray:
    # Flax encodes an array (code 1) and a NumPy scalar (code 3) as a shape, the name of the dtype, and bytes.
    if code not in (1, 3):
        raise ValueError(f"an entry of the unknown type {code}")
    shape, name, buffer = msgpack.unpackb(data, raw=True, max_array_len=_MOST_AXES, max_map_len=0)
    if name.decode() not in _INTEGERS + _FLOATS:
        raise ValueError(f"an array of the type {name!r}")
    return np.frombuffer(buffer, jnp.dtype(name.decode())).reshape(shape)

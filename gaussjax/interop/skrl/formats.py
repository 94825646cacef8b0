"""The formats of skrl's checkpoints as data: a pickle is read opcode by opcode, and no code of a file is run."""

from __future__ import annotations

import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
from flax.traverse_util import flatten_dict

from gaussjax.core import untrusted

MOST_ENTRIES = 200_000
# An agent in torch has some 20 opcodes for each array.
_MOST_OPCODES = 500_000
# Longest map of Flax, which bounds the memory of unfinished maps, and most axes of an array.
_MOST_NAMES, _MOST_AXES = 2000, 32
_INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("bfloat16", "float16", "float32", "float64")
# Dtypes of torch's storages, by the names of their classes.
_STORAGES: Mapping[str, Any] = {
    f"torch {name}Storage": dtype
    for name, dtype in (
        ("BFloat16", ml_dtypes.bfloat16),
        ("Half", np.float16),
        ("Float", np.float32),
        ("Double", np.float64),
        ("Bool", np.bool_),
        ("Byte", np.uint8),
        ("Char", np.int8),
        ("Short", np.int16),
        ("Int", np.int32),
        ("Long", np.int64),
    )
}
# The three functions that torch.save names.
_ORDERED_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8")
_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global(str):
    """A reference of a pickle to a class or a function, as text; it is not imported."""


def read_torch(file: BinaryIO) -> Any:
    """Reads a zip that torch.save wrote: plain data and arrays; bfloat16 becomes float32."""
    with untrusted.open_zip(file) as archive:
        entries = archive.infolist()
        # torch compresses nothing. Entries that overlap would be longer than the file together.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("a compressed entry")
        size = os.fstat(file.fileno()).st_size
        if sum(entry.file_size for entry in entries) > size or len(set(archive.namelist())) < len(entries):
            raise ValueError("entries that overlap")
        parts = {entry.filename: _entry(archive, entry) for entry in entries}
    name = next((name for name in parts if name.endswith("/data.pkl")), None)
    if name is None:
        raise ValueError("a zip without data.pkl")
    folder = name.removesuffix("data.pkl")
    if parts.get(f"{folder}byteorder", b"little") != b"little":
        raise ValueError("numbers in big-endian byte order")
    converted: dict[Any, np.ndarray] = {}

    def storage(pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(key, str) or not isinstance(dtype, _Global):
            raise ValueError("a reference to something outside the file")
        if (dtype, key) not in converted:
            array = np.frombuffer(parts[f"{folder}data/{key}"], _STORAGES[dtype])
            converted[dtype, key] = array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
        return converted[dtype, key][:count]

    return unpickle(parts[name], storage)


def read_pickle(file: BinaryIO) -> Any:
    """Reads an agent in JAX: a pickled dict of modules in bytes, or the bytes of one module."""
    content = unpickle(file.read(), None)
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


def unpickle(payload: bytes, storage: Callable[[Any], np.ndarray] | None) -> Any:
    """Evaluates a pickle of numbers, texts, bytes, lists and dicts, and of torch's tensors if `storage` is given.

    Args:
        payload: The pickle.
        storage: Function from a persistent id to the array of all numbers of a storage.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    allowed = () if storage is None else (_ORDERED_DICT, _TENSOR, _PARAMETER, *_STORAGES)

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    for count, (opcode, found, _) in enumerate(pickletools.genops(payload)):
        name, argument = opcode.name, cast(Any, found)
        if count > _MOST_OPCODES:
            raise ValueError(f"a pickle of more than {_MOST_OPCODES:,} opcodes")
        if name in _NUMBERS or name in _TEXTS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(stack)
            stack = []
        elif name == "TUPLE":
            items = since_mark()
            stack.append(tuple(items))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            _expect(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            # Python recurses through a nested tuple to compute its hash.
            keys = [key if isinstance(key, (str, int)) else _expect(key, str) for key in items[::2]]
            _expect(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
        elif name == "GLOBAL":
            if argument not in allowed:
                raise ValueError(f"a reference to {argument.replace(' ', '.')}, which would run code")
            stack.append(_Global(argument))
        elif name == "BINPERSID" and storage is not None:
            stack.append(storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":  # The attribute `_metadata` of a state_dict, which has no arrays.
            stack.pop()
            _expect(stack[-1], dict)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the pickle opcode {name}, which plain data does not need")
    raise ValueError("a pickle without an end")


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Global):
        raise ValueError("a call of something other than a function")
    if function == _ORDERED_DICT and arguments == ():
        return {}
    if function == _PARAMETER:
        return _expect(arguments[0], np.ndarray)
    if function != _TENSOR:
        raise ValueError(f"a call of {function}")
    storage, offset, shape, strides = arguments[:4]
    if (
        len(shape) != len(strides)
        or len(shape) > _MOST_AXES
        or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
    ):
        raise ValueError("a tensor with a wrong shape")
    count = int(np.prod([*shape, 1], dtype=object))
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if count else 0
    # With strides of 0 a few bytes can describe a huge tensor.
    if last >= max(1, storage.size) or count > storage.size:
        raise ValueError(f"a tensor of shape {shape} that holds fewer numbers")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(_expect(storage, np.ndarray)[offset:], shape, steps, writeable=False)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except zipfile.BadZipFile as error:
        raise ValueError(f"damaged bytes in {entry.filename}") from error


def _unpack(payload: bytes, entries: list[int]) -> Any:
    """Reads MessagePack of Flax; `entries` counts the entries of all maps."""

    def counted(tree: dict[str, Any]) -> dict[str, Any]:
        entries[0] += len(tree) + 1
        if entries[0] > MOST_ENTRIES:
            raise ValueError(f"more than {MOST_ENTRIES:,} entries")
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

"""Pickles as data: they are read opcode by opcode, and neither imported nor called."""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import ml_dtypes
import numpy as np

# A checkpoint of torch has some 20 opcodes for each array.
_MOST_OPCODES = 500_000
_MOST_AXES = 32
# Dtypes of torch's storages, by the names of their classes.
STORAGES: Mapping[str, Any] = {
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
# The functions that torch.save names.
_ORDERED_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
TORCH = (_ORDERED_DICT, _TENSOR, _PARAMETER, *STORAGES)
# The functions with which NumPy and JAX pickle arrays; the packages have other names before NumPy 2.
NUMPY = tuple(
    f"numpy.{core}.{name}" for core in ("core", "_core") for name in ("multiarray _reconstruct", "numeric _frombuffer")
)
_SCALARS = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar")
JAX = "jax._src.array _reconstruct_array"
ARRAYS = (*NUMPY, *_SCALARS, JAX, "numpy ndarray", "numpy dtype")
_DTYPES = ("b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
# Sets are lists here.
_NEW = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Global(str):
    """A reference of a pickle to a class or a function, as the text `module name`; it is not imported."""


class Record:
    """An object of a pickle as data: the call that would make it, and what would be stored in it.

    Attributes:
        function: The `Global` or the record that would be called.
        arguments: Arguments of the call.
        state: State that would be set, or None.
        items: Entries that would be appended.
        entries: Entries that would be set by key.
    """

    __slots__ = ("arguments", "entries", "function", "items", "state")

    def __init__(self, function: Any, arguments: Any) -> None:
        self.function, self.arguments, self.state = function, arguments, None
        self.items: list[Any] = []
        self.entries: dict[Any, Any] = {}


def unpickle(
    payload: bytes, allowed: Collection[str] | None = (), storage: Callable[[Any], np.ndarray] | None = None
) -> Any:
    """Reads a pickle of numbers, texts, bytes, lists, dicts and records; torch's tensors become arrays.

    Args:
        payload: The pickle.
        allowed: Classes and functions that the pickle may name, such as `TORCH`; None allows all of them. None of
            them is imported.
        storage: Function from a persistent id to the array of all numbers of one of torch's storages.

    Raises:
        ValueError: The pickle is damaged, too long, names another class or function, or needs an opcode of code.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        nonlocal stack
        items, stack = stack, marks.pop()
        return items

    def reference(name: str) -> Global:
        if allowed is not None and name not in allowed:
            raise ValueError(f"a reference to {name.replace(' ', '.')}, which would run code")
        return Global(name)

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
        elif name == "POP":
            stack.pop()
        elif name in ("TUPLE", "FROZENSET"):
            items = since_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else since_mark()
            target = stack[-1]
            expect(target.items if isinstance(target, Record) else target, list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else since_mark()
            target = stack[-1]
            table = expect(target.entries if isinstance(target, Record) else target, dict)
            table.update(zip(_keys(items[::2], allowed is not None), items[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                module, attribute = stack.pop(-2), stack.pop()
                argument = f"{expect(module, str)} {expect(attribute, str)}"
            stack.append(reference(argument))
        elif name == "BINPERSID" and storage is not None:
            stack.append(storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                stack.pop()
            arguments = expect(stack.pop(), tuple)
            stack.append(_call(stack.pop(), arguments))
        elif name == "BUILD":
            state, target = stack.pop(), stack[-1]
            if isinstance(target, Record):
                target.state = state
            else:  # The attribute `_metadata` of a state_dict, which has no arrays.
                expect(target, dict)
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the pickle opcode {name}, which plain data does not need")
    raise ValueError("a pickle without an end")


def _keys(keys: list[Any], strict: bool) -> list[Any]:
    # Python recurses through a nested tuple to compute its hash. Objects of any class have such keys, which no reader
    # needs; one text replaces them.
    plain = (str, int) if strict else (str, int, float, bytes, type(None), Record)
    return [key if isinstance(key, plain) else expect(key, str) if strict else "" for key in keys]


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(function, (Global, Record)):
        raise ValueError("a call of something other than a function")
    if function == _ORDERED_DICT and arguments == ():
        return {}
    if function == _PARAMETER:
        return expect(arguments[0], np.ndarray)
    if function == _TENSOR:
        return _tensor(*arguments[:4])
    if function in TORCH:
        raise ValueError(f"a call of {function}")
    return Record(function, arguments)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
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
    return np.lib.stride_tricks.as_strided(expect(storage, np.ndarray)[offset:], shape, steps, writeable=False)


def array(value: Any) -> np.ndarray:
    """Returns the array that a record of NumPy or JAX describes, without a copy; numbers become arrays too.

    Raises:
        ValueError: It is no array of real numbers, or its shape does not fit its bytes.
    """
    if isinstance(value, np.ndarray):
        return value
    if type(value) in (int, float, bool):
        return np.asarray(value, np.float64)
    found = expect(value, Record)
    function, arguments, state = found.function, found.arguments, found.state
    if function == JAX:
        function, _, state = arguments[:3]
    if function in NUMPY and function.endswith("_reconstruct"):
        _, shape, dtype, fortran, data = expect(state, tuple)
    elif function in NUMPY:
        data, dtype, shape, order = arguments
        fortran = order == "F"
    elif function in _SCALARS:
        (dtype, data), shape, fortran = arguments, (), False
    else:
        raise ValueError(f"an object of {str(function)[:100]!r} in place of an array")
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array with a wrong shape")
    kind = _dtype(dtype)
    if not isinstance(data, (bytes, bytearray)) or len(data) != int(np.prod([*shape, 1], dtype=object)) * kind.itemsize:
        raise ValueError(f"an array of shape {shape} that has another number of bytes")
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


def _dtype(record: Any) -> np.dtype:
    name = record.arguments[0] if isinstance(record, Record) and record.function == "numpy dtype" else None
    if name not in _DTYPES:
        raise ValueError("an array of something other than numbers")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "<"
    return np.dtype(name).newbyteorder(">" if order == ">" else "<")


def expect(value: Any, kind: type) -> Any:
    """Returns the value; raises ValueError if it is of another type."""
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value

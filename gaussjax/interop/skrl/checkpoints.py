"""skrl's checkpoints, read without running anything in them."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import msgpack
import numpy as np

from gaussjax.core.choices import choose

_NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in (*_NUMBERS, "float16", "float32", "float64")},
    "bfloat16": np.dtype(jnp.bfloat16),
}


class CheckpointError(ValueError):
    """A file that is no checkpoint of skrl, or holds more than arrays."""


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arrays of a checkpoint of skrl, by module and name; nothing in the file is executed.

    Args:
        path: A `.pt` file of its torch agents and models, or a `.pickle` (agents) or `.flax` (models)
            file of its JAX ones.

    Returns:
        For an agent `{"policy": {"net.0.weight": array, …}, "value": …}`, for a single model its
        arrays by name. The names of nested modules are joined by dots. Numbers and texts beside the
        arrays, which optimizers have, stay as they are.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, of another kind, or asks for code to be run.

    Example:
        >>> import flax.serialization, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.flax"
        >>> _ = path.write_bytes(flax.serialization.to_bytes({"params": {"net": {"bias": np.zeros(2, np.float32)}}}))
        >>> read(path)
        {'net.bias': array([0., 0.], dtype=float32)}
    """
    path = Path(path)
    reader = choose({".pt": _read_torch, ".pickle": _read_pickle, ".flax": _read_flax}, path.suffix, f"{path}: suffix")
    payload = path.read_bytes()
    try:
        content = reader(payload)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint of skrl that holds arrays alone, got one that cannot be read: {reason}. "
            f"Save it again with agent.save or model.save of skrl."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected modules or arrays by name, got {type(content).__name__}.")
    return content


def _read_torch(payload: bytes) -> Any:
    import torch

    # torch stores without compression; a compressed entry may be a bomb.
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError("a compressed entry")
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(f"damaged bytes in {damaged}")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch goes on with advice on how to run what the file asks for.
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(f"a reference to {name[1]}, which would run code" if name else "no arrays") from error

    def arrays(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            # Of strides 0, some bytes can say that they are a tensor of any size.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise CheckpointError(f"a tensor of shape {tuple(value.shape)} that holds fewer numbers")
            return value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
        if isinstance(value, Mapping):
            return {key: arrays(part) for key, part in value.items()}
        return [arrays(part) for part in value] if isinstance(value, (list, tuple)) else value

    return arrays(content)


class _Data(pickle.Unpickler):
    """Reads numbers, texts, bytes, lists and dicts; whatever names a class or function is refused."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise CheckpointError(f"a reference to {module_name}.{global_name}, which would run code")

    def persistent_load(self, pid: Any) -> Any:
        raise CheckpointError("a reference to something outside the file")


def _read_pickle(payload: bytes) -> Any:
    content = _Data(io.BytesIO(payload)).load()
    if isinstance(content, bytes):
        return _read_flax(content)
    if not isinstance(content, dict) or not all(isinstance(part, bytes) for part in content.values()):
        raise CheckpointError("something else than modules in bytes")
    return {name: _read_flax(part) for name, part in content.items()}


def _read_flax(payload: bytes) -> Any:
    tree = msgpack.unpackb(payload, ext_hook=_array, raw=False, strict_map_key=True)
    tree = tree["params"] if isinstance(tree, dict) and set(tree) == {"params"} else tree
    flat: dict[str, Any] = {}
    queue = [("", tree)]
    while queue:
        name, value = queue.pop()
        if isinstance(value, dict):
            queue += [(f"{name}.{key}" if name else str(key), part) for key, part in reversed(value.items())]
        else:
            flat[name] = value
    return flat


def _array(code: int, data: bytes) -> np.ndarray:
    # Flax writes an array (1) and a NumPy number (3) as its shape, the name of its type and its bytes.
    if code not in (1, 3):
        raise CheckpointError(f"an entry of the unknown type {code}")
    shape, name, buffer = msgpack.unpackb(data, raw=True)
    dtype = _DTYPES.get(name.decode())
    if dtype is None:
        raise CheckpointError(f"an array of the type {name!r}")
    return np.frombuffer(buffer, dtype).reshape(shape)

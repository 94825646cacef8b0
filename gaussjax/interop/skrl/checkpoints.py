"""Conversion of skrl's checkpoints to parameters and statistics; nothing in a checkpoint is executed."""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gaussjax import normalize
from gaussjax.core.choices import choose
from gaussjax.core.trees import check_shapes
from gaussjax.policy import Spec

_INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("bfloat16", "float16", "float32", "float64")
_REPAIR = "Change the map of names, or make the policy with the network and the spaces of skrl's model."


class CheckpointError(ValueError):
    """Raised if a file is not a checkpoint of skrl or does not consist of arrays."""


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the arrays of a checkpoint of skrl, by module and name.

    Args:
        path: Path of a file: `.pt` (an agent or model in torch), `.pickle` (an agent in JAX) or `.flax` (a model in
            JAX).

    Returns:
        `{"policy": {"net.0.weight": array, …}, "value": …}` for an agent, arrays by name for a model. Dots join the
        names of nested modules. Numbers and texts in the state of an optimizer are kept.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, of another kind, or would run code.

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


def params(spec: Spec, module: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """Converts the arrays of a skrl model to the parameters of a policy.

    Args:
        spec: Spec of a policy with a network of `gaussjax.networks`.
        module: Arrays by name: the result of `read` for a model, or one module of an agent.
        names: Map from names in skrl, whole or up to a dot, to names in `gaussjax.torch.to_torch(...)`. The longest
            match counts, and the rest of a name (weight, kernel, …) is kept. None drops the matching arrays.

    Returns:
        The parameters for JAX; `gaussjax.torch.to_torch` converts them to torch.

    Raises:
        ValueError: An array has no entry in the map, two arrays map to one name, or an array does not fit the policy.
        TypeError: An argument has another type, or the network is not one of `gaussjax.networks`.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(()), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> module = {"net.weight": np.ones((2, 3)), "net.bias": np.zeros(2), "log_std_parameter": np.zeros(2)}
        >>> found = params(policy.spec, module, {"net": "head.mean", "log_std_parameter": "head.log_std"})
        >>> found["params"]["head"]["mean"]["kernel"].shape
        (3, 2)
    """
    # Imported on first use, because `read` needs no torch for checkpoints that skrl wrote with JAX.
    from gaussjax.torch import convert

    if not isinstance(spec, Spec):
        raise TypeError(f"spec: expected the spec of a policy, got {type(spec).__name__}. Pass policy.spec.")
    if not isinstance(module, Mapping):
        raise TypeError(
            f"module: expected arrays by name, got {type(module).__name__}. gaussjax.interop.skrl.read returns them."
        )
    modules = [name for name, part in module.items() if isinstance(part, Mapping)]
    if modules:
        raise ValueError(
            f"module: expected the arrays of one model, got the modules {modules}. Pass one of them, such as "
            f"modules['policy']."
        )
    try:
        found = list(convert.leaves(convert.network(spec)))
    except TypeError as error:
        raise TypeError(
            f"spec: expected a network of gaussjax.networks, got {type(spec.network).__name__}. Fill the tree of "
            f"policy.init by hand; a kernel of Flax is the transpose of torch's weight."
        ) from error
    # Maps the name of a parameter in gaussjax to its name in skrl and its array.
    mapped: dict[str, tuple[str, Any]] = {}
    unknown = []
    for name, array in module.items():
        match = max((given for given in names if f"{name}.".startswith(f"{given}.")), key=len, default=None)
        if match is None:
            unknown.append(name)
        elif names[match] is not None:
            ours = f"{names[match]}{name[len(match) :]}"
            if ours in mapped:
                raise ValueError(
                    f"names: expected one array for {ours!r}, got {mapped[ours][0]!r} and {name!r}. "
                    f"Map one of them to None to drop it."
                )
            mapped[ours] = name, array
    if unknown:
        raise ValueError(
            f"names: expected an entry for every array, got none for {unknown}. Add their names in gaussjax, "
            f"the beginnings of {sorted(leaf.torch for leaf in found)}, or None to drop them."
        )
    arrays = {name: array for name, (_, array) in mapped.items()}
    if any(name.endswith((".kernel", ".scale")) for name in arrays):
        # A layer has the same name in torch and in Flax, but its arrays do not (weight in torch, kernel in Flax).
        in_flax = {f"{leaf.torch.rpartition('.')[0]}.{leaf.flax[-1]}": leaf.flax for leaf in found}
        tree = unflatten_dict({in_flax.get(name, (name,)): array for name, array in arrays.items()})
        check_shapes(tree, convert.flax_shapes(found), "params", _REPAIR)
        return {"params": tree}
    expected = {leaf.torch: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in found}
    check_shapes(arrays, expected, "params", _REPAIR)
    return convert.to_flax(spec, {name: convert.tensor_of(array) for name, array in arrays.items()})


def statistics(module: Mapping[str, Any], clip: float = 5.0) -> normalize.Statistics:
    """Converts the arrays of skrl's RunningStandardScaler to observation statistics.

    Args:
        module: Arrays of the scaler, from `read`.
        clip: Bound on the absolute value of normalized observations; skrl's default is 5.

    Returns:
        Statistics for `gaussjax.normalize` and `gaussjax.save`.

    Raises:
        ValueError: An array of the scaler is missing.

    Example:
        >>> module = {"running_mean": np.ones(2), "running_variance": np.ones(2), "current_count": np.array(4.0)}
        >>> statistics(module).m2
        Array([4., 4.], dtype=float32)
    """
    names = ("running_mean", "running_variance", "current_count")
    if not set(names) <= set(module):
        raise ValueError(f"module: expected the arrays {names}, got {sorted(module)}.")
    # skrl computes in float64, whose digits float32 arrays keep as a sum.
    mean, variance, count = (np.asarray(module[name], np.float64) for name in names)
    count = count.reshape(())
    return jax.tree.map(jnp.asarray, normalize.Statistics(count, mean, variance * count, clip))


def _read_torch(payload: bytes) -> Any:
    import torch

    # Compressed entries are refused: torch writes none, and a small one could expand to fill the memory.
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError("a compressed entry")
        damaged = archive.testzip()
    if damaged:
        raise CheckpointError(f"damaged bytes in {damaged}")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message is left out, because it advises the user to run the code in the file.
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(f"a reference to {name[1]}, which would run code" if name else "no arrays") from error

    def arrays(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            # A damaged or hostile file can describe a huge tensor in a few bytes, with strides of 0.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise CheckpointError(f"a tensor of shape {tuple(value.shape)} that holds fewer numbers")
            return value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
        if isinstance(value, Mapping):
            return {key: arrays(part) for key, part in value.items()}
        return [arrays(part) for part in value] if isinstance(value, (list, tuple)) else value

    return arrays(content)


class _Data(pickle.Unpickler):
    """Unpickler of numbers, texts, bytes, lists and dicts; raises for classes and functions, which could run code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise CheckpointError(f"a reference to {module_name}.{global_name}, which would run code")

    def persistent_load(self, pid: Any) -> Any:
        raise CheckpointError("a reference to something outside the file")


def _read_pickle(payload: bytes) -> Any:
    content = _Data(io.BytesIO(payload)).load()
    if isinstance(content, bytes):
        return _read_flax(content)
    if not isinstance(content, dict) or not all(isinstance(part, bytes) for part in content.values()):
        raise CheckpointError("something other than modules in bytes")
    return {name: _read_flax(part) for name, part in content.items()}


def _read_flax(payload: bytes) -> Any:
    tree = msgpack.unpackb(payload, ext_hook=_array, raw=False, strict_map_key=True)
    tree = tree["params"] if isinstance(tree, dict) and set(tree) == {"params"} else tree
    return flatten_dict(tree, sep=".") if isinstance(tree, dict) else {"": tree}


def _array(code: int, data: bytes) -> np.ndarray:
    # Flax encodes an array (code 1) and a NumPy scalar (code 3) as a shape, the name of the dtype, and bytes.
    if code not in (1, 3):
        raise CheckpointError(f"an entry of the unknown type {code}")
    shape, name, buffer = msgpack.unpackb(data, raw=True)
    if name.decode() not in _INTEGERS + _FLOATS:
        raise CheckpointError(f"an array of the type {name!r}")
    return np.frombuffer(buffer, jnp.dtype(name.decode())).reshape(shape)

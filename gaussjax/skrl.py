"""Coming from skrl: its checkpoints read without running anything in them, and its calling conventions.

A checkpoint holds arrays by the names a user gave to layers, and no sizes, spaces or options. So a
policy is made first, and a map from skrl's names to gaussjax's says which array is which::

    policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), observation_space, action_space)
    modules = gaussjax.skrl.read("agent_10000.pt")
    params = gaussjax.skrl.params(policy.spec, modules["policy"], {
        "net.0": "layers.dense_0", "net.2": "layers.dense_1", "net.4": "head.mean", "log_std_parameter": "head.log_std",
    })
"""

from __future__ import annotations

import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import msgpack
import numpy as np

from gaussjax import checks, normalize, skrl_memory
from gaussjax.networks.layers import choose
from gaussjax.policy import Policy, Spec

_NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in (*_NUMBERS, "float16", "float32", "float64")},
    "bfloat16": np.dtype(jnp.bfloat16),
}


_REPAIR = "Change the map of names, or make the policy with the network and the spaces of skrl's model."


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


def params(spec: Spec, module: Mapping[str, Any], names: Mapping[str, str | None]) -> dict[str, Any]:
    """The parameters of a policy from the arrays of a model of skrl.

    Args:
        spec: Of the policy, whose network has to be one of gaussjax's own.
        module: What `read` gave, or one module of it.
        names: From skrl's names to gaussjax's, whole names or the parts before a dot; the longest
            match counts. None drops what matches. gaussjax's are those of
            `gaussjax.torch.to_torch(...)`; the last part (weight, kernel, …) is skrl's.

    Returns:
        The parameters for JAX; `gaussjax.torch.to_torch` makes those for torch.

    Raises:
        ValueError: An array has no name in the map, or the mapped ones are not those of the policy,
            each named.
        TypeError: Something else came, or the network is not one of gaussjax's own.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(()), 3, gaussjax.spaces.Box((2,)))
        >>> module = {"net.weight": np.ones((2, 3)), "net.bias": np.zeros(2), "log_std_parameter": np.zeros(2)}
        >>> found = params(policy.spec, module, {"net": "head.mean", "log_std_parameter": "head.log_std"})
        >>> found["params"]["head"]["mean"]["kernel"].shape
        (3, 2)
    """
    # Loaded here, for reading checkpoints of JAX needs no torch.
    from gaussjax.torch import convert

    if not isinstance(spec, Spec):
        raise TypeError(f"spec: expected the spec of a policy, got {type(spec).__name__}. Pass policy.spec.")
    if not isinstance(module, Mapping):
        raise TypeError(f"module: expected arrays by name, got {type(module).__name__}. gaussjax.skrl.read gives them.")
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
    mapped: dict[str, Any] = {}
    unknown = []
    for name, array in module.items():
        match = max((given for given in names if f"{name}.".startswith(f"{given}.")), key=len, default=None)
        if match is None:
            unknown.append(name)
        elif names[match] is not None:
            mapped[f"{names[match]}{name[len(match) :]}"] = array
    if unknown:
        raise ValueError(
            f"names: expected an entry for every array, got none for {unknown}. Add what they are called in gaussjax, "
            f"the beginnings of {sorted(leaf.torch for leaf in found)}, or None to drop them."
        )
    # Layers are called alike in both frameworks, their arrays (weight, kernel) are not.
    in_flax = {f"{leaf.torch.rpartition('.')[0]}.{leaf.flax[-1]}": leaf for leaf in found}
    if any(name.endswith((".kernel", ".scale")) for name in mapped):
        tree = convert.nested({in_flax[n].flax if n in in_flax else (n,): a for n, a in mapped.items()})
        checks.tree(tree, convert.flax_shapes(found), "params", _REPAIR)
        return {"params": tree}
    checks.tree(mapped, convert.torch_shapes(found), "params", _REPAIR)
    return convert.to_flax(spec, {name: convert.tensor_of(array) for name, array in mapped.items()})


def statistics(module: Mapping[str, Any]) -> normalize.Statistics:
    """Observation statistics from the arrays of skrl's RunningStandardScaler.

    skrl clips to 5 and divides by `sqrt(variance) + epsilon`; pass `clip=5.0` to `normalize.apply`.

    Args:
        module: What `read` gave for the scaler.

    Returns:
        For `gaussjax.normalize` and `gaussjax.save`.

    Raises:
        ValueError: They are other arrays.

    Example:
        >>> module = {"running_mean": np.ones(2), "running_variance": np.ones(2), "current_count": np.array(4.0)}
        >>> statistics(module).m2
        Array([4., 4.], dtype=float32)
    """
    names = ("running_mean", "running_variance", "current_count")
    if not set(names) <= set(module):
        raise ValueError(f"module: expected the arrays {names}, got {sorted(module)}.")
    mean, variance, count = (jnp.asarray(np.asarray(module[name]), jnp.float32) for name in names)
    return normalize.Statistics(count.reshape(()), mean, variance * count)


class Profile(NamedTuple):
    """A policy called as a model of one version of skrl is.

    Attributes:
        act: `(params, key, inputs) -> (actions, log_prob, outputs)` in 1.4.3, and from 2.0.0 on
            `(actions, outputs)` with `outputs["log_prob"]`; `role=` is taken and means nothing.
            `inputs` has the observations as `"states"` in 1.4.3 and `"observations"` after it, and
            maybe `"taken_actions"`. For a recurrent policy `"rnn"` holds the states, each
            `(layers, N, hidden)`, before and, in the outputs, after; with `"terminated"` the batch is
            one of training, see `skrl_memory.call`.
        entropy: `(params, inputs)`: a dimension, `(N, act)`, and in 2.1.1 their sum, `(N, 1)`.
        log_std: `(params, inputs)`: `(N, act)`; of 1.4.3 only, else None.
    """

    act: Callable[..., Any]
    entropy: Callable[..., Any]
    log_std: Callable[..., Any] | None


def profile(policy: Policy, version: str) -> Profile:
    """The functions of a policy with the arity, names and shapes of a version of skrl.

    It is for moving a program over step by step; keys are given as in gaussjax, for skrl's hidden ones
    freeze under `jit`.

    Args:
        policy: Of `gaussjax.gaussian` or `gaussjax.torch.gaussian`; with a memory if it is one of RNN, GRU, LSTM.
        version: "1.4.3", "2.0.0" or "2.1.1".

    Returns:
        `act`, `entropy` and `log_std` as that version has them.

    Raises:
        ValueError: Another version or kind of policy, or options that skrl has not.

    Example:
        >>> import gaussjax, jax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box((2,)))
        >>> old, params = profile(policy, "2.1.1"), policy.init(jax.random.key(0))
        >>> actions, outputs = old.act(params, jax.random.key(1), {"observations": jnp.zeros((5, 3))})
        >>> actions.shape, outputs["log_prob"].shape, old.entropy(params, {"observations": jnp.zeros((5, 3))}).shape
        ((5, 2), (5, 1), (5, 1))
    """
    choose(dict.fromkeys(("1.4.3", "2.0.0", "2.1.1")), version, "version")
    options = dict(policy.spec.options)
    if policy.spec.kind != "gaussian" or options["clipped_log_prob"] != "density" or not options["keepdims"]:
        raise ValueError(
            f"policy: expected one of gaussian with clipped_log_prob='density' and keepdims=True, which skrl has, got "
            f"{policy.spec.kind} with {options}."
        )
    skrl_memory.check(policy)
    name = "states" if version == "1.4.3" else "observations"

    def act(params: Any, key: Any, inputs: Mapping[str, Any], *, role: str = "") -> Any:
        call = skrl_memory.call(policy, inputs, name)
        actions, log_prob, outputs = policy.act(params, key, call.observations, **call.options)
        states = {"rnn": call.states(outputs["carry"])} if "carry" in outputs else {}
        kept = {name: call.flat(value) for name, value in outputs.items() if name not in ("raw_actions", "carry")}
        actions, log_prob = call.flat(actions), call.flat(log_prob)
        if version == "1.4.3":
            return actions, log_prob, {**kept, **states}
        return actions, {**kept, **states, "log_prob": log_prob}

    def each(function: Callable[..., Any], params: Any, inputs: Mapping[str, Any]) -> Any:
        call = skrl_memory.call(policy, inputs, name)
        memory = {name: value for name, value in call.options.items() if name != "taken_actions"}
        return call.flat(function(params, call.observations, **memory))

    def entropy(params: Any, inputs: Mapping[str, Any]) -> Any:
        terms = each(policy.entropy, params, inputs)
        return terms.sum(-1)[..., None] if version == "2.1.1" else terms

    def log_std(params: Any, inputs: Mapping[str, Any]) -> Any:
        return each(policy.log_std, params, inputs)

    return Profile(act, entropy, log_std if version == "1.4.3" else None)


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

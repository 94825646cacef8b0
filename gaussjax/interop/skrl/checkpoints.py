"""Conversion of skrl's checkpoints to parameters and statistics; nothing in a checkpoint is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from gaussjax import normalize
from gaussjax.core import untrusted
from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.core.trees import check_shapes
from gaussjax.interop import converted
from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.skrl import formats
from gaussjax.policy import Spec

_REPAIR = "Change the map of names, or make the policy with the network and the spaces of skrl's model."


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
        CheckpointError: The file is damaged, of another kind, would run code, or its content takes more than 10 times
            the size of the file and 128 MiB of memory.

    Example:
        >>> import flax.serialization, tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.flax"
        >>> _ = path.write_bytes(flax.serialization.to_bytes({"params": {"net": {"bias": np.zeros(2, np.float32)}}}))
        >>> read(path)
        {'net.bias': array([0., 0.], dtype=float32)}
    """
    path = Path(path)
    readers = {".pt": formats.read_torch, ".pickle": formats.read_pickle, ".flax": formats.read_flax}
    reader = choose(readers, path.suffix, f"{path}: suffix")
    with converted.opened(path, "skrl", "Save it again with agent.save or model.save of skrl.") as (file, size):
        content = reader(file)
        # Lists and arrays may occur several times in the content.
        untrusted.refuse_large(content, converted.MOST_ENTRIES, untrusted.budget(size))
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
            f"module: expected the arrays of one model, got the modules {quoted(modules)}. Pass one of them, such as "
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
            f"names: expected an entry for every array, got none for {quoted(unknown)}. Add their names in gaussjax, "
            f"the beginnings of {quoted(sorted(leaf.torch for leaf in found))}, or None to drop them."
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
        raise ValueError(f"module: expected the arrays {names}, got {quoted(sorted(module))}.")
    # skrl computes in float64, whose digits float32 arrays keep as a sum.
    mean, variance, count = (np.asarray(module[name], np.float64) for name in names)
    count = count.reshape(())
    return jax.tree.map(jnp.asarray, normalize.Statistics(count, mean, variance * count, clip))

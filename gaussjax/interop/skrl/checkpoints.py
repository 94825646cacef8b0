"""Conversion of skrl's checkpoints to parameters and statistics; nothing in a checkpoint is executed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from gaussjax import normalize, spaces
from gaussjax.core import untrusted
from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.core.trees import check_shapes
from gaussjax.files import Loaded
from gaussjax.interop import converted
from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.skrl import formats
from gaussjax.interop.skrl.conventions import unflatten
from gaussjax.networks import MLP, ActorCritic
from gaussjax.networks.recurrent.networks import Recurrent
from gaussjax.policy import Policy, Spec, checks

# Names of the scaler of observations from 2.0.0 on, and before.
_SCALERS = ("observation_preprocessor", "state_preprocessor")
# Number that skrl adds to the standard deviation of observations.
_ADDED = 1e-8
_NUMBER = r"(?<=[^\d.])(\d{1,9})(?=\.|$)"
_REPAIR = "Pass another map as names=, or make the policy with the network and the spaces of skrl's model."


def read(
    path: str | os.PathLike[str], policy: Policy, names: Mapping[str, str | None] | None = None, *, clip: float = 5.0
) -> Loaded:
    """Reads the policy of a checkpoint of skrl: its parameters, and the running scaler of the observations.

    `gaussjax.save(file, loaded.policy, loaded.params, normalizer=loaded.normalizer)` then writes a policy file.

    Args:
        path: Path of an agent or a model, as for `arrays`.
        policy: A policy with the network, spaces and options of skrl's model, which a checkpoint does not hold.
        names: As for `params`. None assigns the layers in their order, and by name in files of `torch_model` and
            `jax_model`. In files of JAX, which may sort the names, the numbers in names such as `Dense_0` are the
            order; layers of equal shapes without them need this argument.
        clip: As for `statistics`.

    Returns:
        The content of the policy file: `policy`, `params`, and `normalizer` if the agent has a scaler of observations.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: As for `arrays`.
        ValueError: The arrays do not fit the policy, their order is unknown, the file has no policy, or a standard
            deviation is below 1e-4. With `clip=np.inf` the first layer of an `MLP` or of a recurrent network is scaled
            instead.
        TypeError: The network is not one of `gaussjax.networks`.

    Example:
        >>> import gaussjax, tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "agent.pt"
        >>> layer = {"net.0.weight": torch.ones(2, 3), "net.0.bias": torch.zeros(2)}
        >>> torch.save({"policy": {**layer, "log_std_parameter": torch.zeros(2)}}, path)
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(()), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> read(path, policy).params["params"]["head"]["mean"]["kernel"].shape
        (3, 2)
    """
    checks.policy(policy)
    modules = arrays(path)
    agent = any(isinstance(part, Mapping) for part in modules.values())
    if agent and not isinstance(modules.get("policy"), Mapping):
        raise ValueError(f"{path}: expected a module 'policy', got {quoted(sorted(modules))}. Read it with arrays.")
    module = {name.removeprefix("network."): array for name, array in (modules["policy"] if agent else modules).items()}
    shapes = jax.eval_shape(policy.init, jax.random.key(0)) if policy.kind.factory else {}
    if names is None and module.keys() == flatten_dict(shapes.get("params", {}), sep=".").keys():
        found = {"params": unflatten_dict({tuple(name.split(".")): array for name, array in module.items()})}
        check_shapes(found, shapes, "params", _REPAIR)
    else:
        found = params(policy.spec, module, in_order(policy.spec, module) if names is None else names)
    scaler = next((modules[name] for name in _SCALERS if agent and modules.get(name)), None)
    normalizer = None
    if scaler is not None:
        normalizer, factors = _scaler(scaler, clip, policy.spec.observation_space)
        if (factors != 1).any():
            found = _scaled(path, policy.spec, found, factors, clip)
    return Loaded(policy, jax.tree.map(jnp.asarray, found), normalizer, {"source": "skrl"})


def arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
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
        >>> arrays(path)
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
        module: Arrays by name: the result of `arrays` for a model, or one module of an agent.
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
    # Imported on first use, because `arrays` needs no torch for checkpoints that skrl wrote with JAX.
    from gaussjax.torch import convert

    if not isinstance(spec, Spec):
        raise TypeError(f"spec: expected the spec of a policy, got {type(spec).__name__}. Pass policy.spec.")
    if not isinstance(module, Mapping):
        raise TypeError(
            f"module: expected arrays by name, got {type(module).__name__}. gaussjax.interop.skrl.arrays returns them."
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


def in_order(spec: Spec, module: Mapping[str, Any]) -> dict[str, str | None]:
    """Maps the layers of a skrl model to those of a policy by their order, for the argument `names` of `params`.

    Raises:
        ValueError: The numbers of layers differ, or layers of Flax have equal shapes and an unknown order.
    """
    from gaussjax.torch import convert

    own = [leaf.torch for leaf in convert.leaves(convert.network(spec))]
    ends = ("weight", "bias", "kernel", "scale")
    place = dict.fromkeys(name.rpartition(".")[0] if name.endswith(ends) else name for name in own)
    theirs = dict.fromkeys(name.rpartition(".")[0] if name.endswith(ends) else name for name in module)
    names = {name: "head.log_std" for name in theirs if "log_std" in name and "head.log_std" in place}
    rest = [name for name in theirs if name not in names], [name for name in place if name not in names.values()]
    if len(rest[0]) != len(rest[1]):
        raise ValueError(
            f"names: expected {len(rest[1])} layers, {quoted(rest[1])}, got {len(rest[0])}: {quoted(rest[0])}. Make "
            f"the policy with the layers of skrl's model, or pass names=."
        )
    if any(name.endswith((".kernel", ".scale")) for name in module):
        rest = _numbered(module, rest[0], rest[1]), rest[1]
    return {**names, **dict(zip(*rest, strict=True))}


def _numbered(module: Mapping[str, Any], layers: list[str], ours: list[str]) -> list[str]:
    """Returns layers of Flax in the order of the numbers in their names, because `jax.tree.map` sorts the names."""
    alike = {name: re.sub(_NUMBER, "#", name) for name in layers}
    found = list(layers)
    for group in set(alike.values()):
        members = [name for name in layers if alike[name] == group]
        ordered = sorted(members, key=lambda name: [int(number) for number in re.findall(_NUMBER, name)])
        for name, other in zip(members, ordered, strict=True):
            found[layers.index(name)] = other
    # Layers of different shapes fit in one order only.
    shapes: dict[Any, list[str]] = {}
    for name in layers:
        parts = {key[len(name) :]: np.shape(array) for key, array in module.items() if f"{key}.".startswith(f"{name}.")}
        shapes.setdefault(tuple(sorted(parts.items())), []).append(name)
    for same in shapes.values():
        if len({alike[name] for name in same}) > 1:
            raise ValueError(
                f"names: expected a map for layers of equal shapes without numbers, {quoted(same)}, because a file of "
                f"JAX may hold them in alphabetical order, got None. Map each name to one of {quoted(ours)}."
            )
    return found


def statistics(module: Mapping[str, Any], clip: float = 5.0, space: Any = None) -> Any:
    """Converts the arrays of skrl's RunningStandardScaler to observation statistics.

    Args:
        module: Arrays of the scaler, from `arrays`.
        clip: Bound on the absolute value of normalized observations; skrl's default is 5.
        space: Observation space whose nesting the statistics get; None for vectors.

    Returns:
        Statistics for `gaussjax.normalize` and `gaussjax.save`, nested like the space. They divide by the standard
        deviation and 1e-8, as skrl does.

    Raises:
        ValueError: An array of the scaler is missing, a variance is negative or NaN, or it scales discrete
            parts, which gaussjax leaves as they are.

    Example:
        >>> module = {"running_mean": np.ones(2), "running_variance": np.ones(2), "current_count": np.array(4.0)}
        >>> statistics(module).m2
        Array([4., 4.], dtype=float32)
    """
    found, factors = _scaler(module, clip, space)
    if (factors != 1).any():
        raise ValueError(f"module: {_below(factors)}. Leave them out of the observations.")
    return found


def _below(factors: np.ndarray) -> str:
    entries = quoted(np.flatnonzero(factors != 1).tolist())
    return f"expected standard deviations of 1e-4 or more, by which gaussjax divides, got less in the entries {entries}"


def _scaler(module: Mapping[str, Any], clip: float, space: Any) -> tuple[Any, np.ndarray]:
    """Returns statistics nested like the space, and factors for the rows of the first kernel."""
    names = ("running_mean", "running_variance", "current_count")
    if not set(names) <= set(module):
        raise ValueError(f"module: expected the arrays {names}, got {quoted(sorted(module))}.")
    # skrl computes in float64, whose digits float32 arrays keep as a sum.
    mean, variance, count = (np.asarray(module[name], np.float64) for name in names)
    if not (variance >= 0).all():
        raise ValueError(
            "module: expected a running_variance of 0 or more, got NaN or less. Use an earlier checkpoint."
        )
    variance, factors = converted.variances(np.sqrt(variance) + _ADDED)
    # Without observations the variance would count as 1.
    count = np.maximum(count.reshape(()), 1.0)
    if space is not None:
        space = spaces.as_space(space)
        mean, variance, nested = (unflatten(space, array) for array in (mean, variance, factors))
    if not all(np.issubdtype(leaf.dtype, np.floating) for leaf in jax.tree.leaves(mean)):
        raise ValueError(
            f"space: expected a Box in every part, got {space}. Pass a normalizer of the Box parts yourself."
        )
    if space is not None:
        # The networks join the parts in the order of the space, and skrl in the order of its names.
        factors = np.asarray(spaces.flatten(space, nested))
    found = jax.tree.map(lambda m, v: normalize.Statistics(count, m, v * count, clip), mean, variance)
    return jax.tree.map(jnp.asarray, found), factors.astype(np.float32)


def _scaled(path: Any, spec: Spec, tree: dict[str, Any], factors: np.ndarray, clip: float) -> dict[str, Any]:
    """Returns parameters whose first layer multiplies each observation by its factor; raises ValueError with a clip."""
    if np.isfinite(clip):
        # After the factor an observation could be far beyond the clip.
        raise ValueError(
            f"{path}: {_below(factors)}. Pass clip=np.inf if no observation is further than {clip:g} standard "
            f"deviations from its mean."
        )
    inside, network, outer = flatten_dict(tree["params"]), spec.network, ()
    if isinstance(network, ActorCritic):
        network, outer = network.actor, ("actor",)
    first: list[tuple[str, ...]] = []
    if isinstance(network, Recurrent):
        first = [
            ("memory", "layer_0", *name) for name in (("kernel_input",), ("update", "kernel"), ("candidate", "kernel"))
        ]
    elif isinstance(network, MLP) and network.sizes:
        first = [("layers", "dense_0", "kernel")]
    elif isinstance(network, MLP) and network.std != "gsde":
        first = [("head", "mean", "kernel"), ("head", "log_std", "kernel")]
    first = [name for name in ((*outer, *name) for name in first) if name in inside]
    if not first:
        raise ValueError(
            f"{path}: {_below(factors)}. Only the first layer of an MLP or of a recurrent network can make up for "
            f"them, and the network is {type(network).__name__}."
        )
    inside |= {name: np.asarray(inside[name]) * factors[:, None] for name in first}
    return {"params": unflatten_dict(inside)}

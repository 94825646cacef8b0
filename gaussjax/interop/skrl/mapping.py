"""What skrl's checkpoints hold, under gaussjax's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from gaussjax import normalize
from gaussjax.core.trees import check_shapes
from gaussjax.policy import Spec

_REPAIR = "Change the map of names, or make the policy with the network and the spaces of skrl's model."


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
        ValueError: An array has no name in the map, two have the same, or the mapped ones are not those of
            the policy, each named.
        TypeError: Something else came, or the network is not one of gaussjax's own.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(()), 3, gaussjax.spaces.Box(shape=(2,)))
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
        raise TypeError(
            f"module: expected arrays by name, got {type(module).__name__}. gaussjax.interop.skrl.read gives them."
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
    mapped: dict[str, Any] = {}
    sources: dict[str, str] = {}
    unknown = []
    for name, array in module.items():
        match = max((given for given in names if f"{name}.".startswith(f"{given}.")), key=len, default=None)
        if match is None:
            unknown.append(name)
        elif names[match] is not None:
            ours = f"{names[match]}{name[len(match) :]}"
            if ours in mapped:
                raise ValueError(
                    f"names: expected one array for {ours!r}, got {sources[ours]!r} and {name!r}. "
                    f"Map one of them to None to drop it."
                )
            mapped[ours], sources[ours] = array, name
    if unknown:
        raise ValueError(
            f"names: expected an entry for every array, got none for {unknown}. Add what they are called in gaussjax, "
            f"the beginnings of {sorted(leaf.torch for leaf in found)}, or None to drop them."
        )
    # Layers are called alike in both frameworks, their arrays (weight, kernel) are not.
    in_flax = {f"{leaf.torch.rpartition('.')[0]}.{leaf.flax[-1]}": leaf for leaf in found}
    if any(name.endswith((".kernel", ".scale")) for name in mapped):
        tree = convert.nested({in_flax[n].flax if n in in_flax else (n,): a for n, a in mapped.items()})
        check_shapes(tree, convert.flax_shapes(found), "params", _REPAIR)
        return {"params": tree}
    check_shapes(mapped, convert.torch_shapes(found), "params", _REPAIR)
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

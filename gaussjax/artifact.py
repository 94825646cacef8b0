"""One policy, one file: parameters, description and observation statistics."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import checks, factories, normalize, safefile
from gaussjax.policy import Params, Policy
from gaussjax.safefile import PolicyFileError as PolicyFileError

FORMAT = 1
# Beyond these a description is not that of a policy.
_MOST_LAYERS, _MOST_AXES, _MOST_NUMBERS = 500, 32, 10**8


class Loaded(NamedTuple):
    """What a policy file holds.

    Attributes:
        policy: Rebuilt from its description.
        params: Its parameters.
        normalizer: Observation statistics, or None.
        metadata: What was saved beside them, and the versions of the libraries that wrote it.
    """

    policy: Policy
    params: Params
    normalizer: normalize.Statistics | None
    metadata: dict[str, Any]


def save(
    path: str | os.PathLike[str],
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Statistics | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a policy to one file, whole or not at all.

    The bytes go to a temporary file beside it, are flushed to the disk and then renamed over
    `path`, so that a reader or a crash never sees half a file.

    Args:
        path: Of the file; an older one is replaced.
        policy: Its spec is written.
        params: Its parameters.
        normalizer: Observation statistics to restore with it.
        metadata: Anything JSON-able, such as the environment's name.

    Raises:
        ValueError: The parameters are not this policy's, or hold NaN.
        TypeError: A PRNG key, text or objects among the parameters.

    Example:
        >>> import gaussjax, jax, os, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box((1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> save(path, policy, params)
        >>> load(path).policy.spec == policy.spec
        True
    """
    path = Path(path)
    refuse_keys(params, "params")
    expected = jax.eval_shape(policy.init, jax.random.key(0))
    checks.tree(params, expected, "params")
    tensors = _flatten("params", params)
    wanted = {name: leaf.dtype for name, leaf in _leaves("params", expected).items()}
    # Parameters in another type than the network makes are meant, and said so to the reader.
    cast = sorted(name for name, array in tensors.items() if array.dtype != wanted[name])
    if normalizer is not None:
        tensors |= _flatten("normalizer", normalizer._asdict())
    safefile.refuse_nan(tensors, path)
    description = {
        "format": FORMAT,
        "policy": policy.spec.to_dict(),
        "cast": cast,
        "metadata": dict(metadata or {}),
    }
    safefile.write(path, tensors, description)


def load(path: str | os.PathLike[str], network: Any = None) -> Loaded:
    """Reads a policy file.

    Args:
        path: Of the file.
        network: Your own network, where the policy was made with one.

    Returns:
        The policy, its parameters as JAX arrays, the observation statistics and the metadata.

    Raises:
        FileNotFoundError: There is no such file.
        PolicyFileError: The file is damaged, or not one that this version and this network read:
            every mismatch is listed.

    Example:
        >>> import gaussjax, os, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box((1,)))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> save(path, policy, policy.init(jax.random.key(0)), metadata={"environment": "mine"})
        >>> loaded = load(path)
        >>> loaded.metadata["environment"], loaded.normalizer
        ('mine', None)
    """
    return assemble(
        path,
        lambda spec: factories.from_spec(spec, network),
        lambda policy: jax.eval_shape(policy.init, jax.random.key(0)),
        jnp.asarray,
    )


def assemble(
    path: str | os.PathLike[str],
    build: Callable[[Mapping[str, Any]], Policy],
    shapes: Callable[[Policy], Any],
    convert: Callable[[np.ndarray], Any],
) -> Loaded:
    """What `load` returns, of a policy in another library too.

    Args:
        path: Of the file.
        build: The policy of a description.
        shapes: The tree of a policy's parameters in Flax, of anything with a shape and a type.
        convert: Makes the leaves.

    Raises:
        FileNotFoundError: There is no such file.
        PolicyFileError: As of `load`.
    """
    path = Path(path)
    tensors, description = safefile.read(path)
    faults = []
    if description.get("format") != FORMAT:
        versions = description.get("versions")
        writer = versions.get("gaussjax") if isinstance(versions, dict) else None
        faults.append(
            f"expected format {FORMAT}, got {description.get('format')}: it was written by gaussjax {writer}; "
            f"use that version or newer"
        )
    try:
        policy = _rebuild(description, build, len(tensors))
        expected = _leaves("params", shapes(policy))
        statistics = _statistics(tensors, policy, convert)
    except Exception as error:
        # Whatever a file that is not ours can bring about ends here, as one kind of error.
        faults.append(f"expected a policy that can be built, got a fault: {str(error)[:500]}")
        raise PolicyFileError(f"{path}: {'; '.join(faults)}") from error
    faults += _mismatches(tensors, expected, description.get("cast", ()))
    if faults:
        raise PolicyFileError(
            f"{path}: {'; '.join(faults)}. Load it with the gaussjax and the network= that it was saved with."
        )
    safefile.refuse_nan(tensors, path)
    metadata = description.get("metadata", {})
    return Loaded(
        policy, _nest(tensors, "params", convert), statistics, {**metadata, "versions": description.get("versions")}
    )


def summary(path: str | os.PathLike[str]) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """What a file says of itself, for people to read, without building the policy.

    Returns:
        Names and values; and of each array its name, type and shape.

    Raises:
        PolicyFileError: The file is damaged.
    """
    path = Path(path)
    tensors, description = safefile.read(path)
    policy = description.get("policy", {})
    shown = {"format": description.get("format"), **{f"{key}": policy[key] for key in policy}}
    shown |= {f"metadata: {key}": value for key, value in description.get("metadata", {}).items()}
    shown |= {f"version: {key}": value for key, value in description.get("versions", {}).items()}
    count = sum(array.size for name, array in tensors.items() if name.startswith("params/"))
    shown |= {"parameters": f"{count:,}"} if policy else {}
    shown |= {"bytes": f"{path.stat().st_size:,}", "sha256": "as written"}
    arrays = [(name, str(array.dtype), str(array.shape)) for name, array in sorted(tensors.items())]
    return {name: str(value) for name, value in shown.items()}, arrays


def refuse_keys(tree: Any, name: str) -> None:
    """Refuses typed PRNG keys among the leaves, and says how to store them.

    Raises:
        TypeError: The leaves that are keys are named.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    keys = [
        f"{name}{jax.tree_util.keystr(path)}"
        for path, leaf in leaves
        if jnp.issubdtype(getattr(leaf, "dtype", None) or np.float32, jax.dtypes.prng_key)
    ]
    if keys:
        raise TypeError(
            f"{', '.join(keys)}: expected arrays of numbers, got PRNG keys. Store jax.random.key_data(key), and "
            f"make the key again with jax.random.wrap_key_data."
        )


def _rebuild(description: Mapping[str, Any], build: Callable[..., Policy], num_tensors: int) -> Policy:
    spec = description["policy"]
    # Text would be read as YAML, whose references can blow up; a file of ours never holds it.
    if not isinstance(spec, dict) or not isinstance(spec.get("network"), dict):
        raise ValueError(f"expected a description as dicts, got {type(spec).__name__}")
    _refuse_bombs(spec, max(num_tensors, _MOST_LAYERS))
    return build(spec)


def _refuse_bombs(described: Any, most_layers: int, name: str = "policy") -> None:
    """Refuses a short text that asks for more than any policy is: it would take for ever to build."""
    if isinstance(described, dict):
        for key, part in described.items():
            _refuse_bombs(part, most_layers, key)
    elif isinstance(described, list):
        if name == "shape" and (len(described) > _MOST_AXES or abs(math.prod(described)) > _MOST_NUMBERS):
            raise ValueError(f"expected a shape of at most {_MOST_NUMBERS} numbers, got {described[:_MOST_AXES]}")
        if name not in ("low", "high", "nvec") and len(described) > most_layers:
            raise ValueError(f"expected at most {most_layers} {name}, got {len(described)}")
        for part in described:
            _refuse_bombs(part, most_layers, name)
    elif name == "num_layers" and isinstance(described, (int, float)) and described > most_layers:
        raise ValueError(f"expected at most {most_layers} layers, got num_layers={described}")


def _mismatches(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Any], cast: Any) -> list[str]:
    """Every leaf that is missing, unknown, of another shape, of another type, or that JAX would narrow."""
    came = {name: array for name, array in tensors.items() if not name.startswith("normalizer/")}
    faults = [f"{name} is missing (expected {leaf.shape})" for name, leaf in expected.items() if name not in came]
    faults += [f"{name} is unknown (got {array.shape})" for name, array in came.items() if name not in expected]
    for name, leaf in expected.items():
        if name not in came:
            continue
        array = came[name]
        if array.shape != leaf.shape:
            faults.append(f"{name}: expected {leaf.shape}, got {array.shape}")
        if array.dtype != leaf.dtype and name not in cast:
            faults.append(f"{name}: expected {leaf.dtype}, got {array.dtype}")
        elif jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            faults.append(f"{name}: expected 32 bits, got {array.dtype}, which needs jax_enable_x64")
    return faults


def _statistics(
    tensors: Mapping[str, np.ndarray], policy: Policy, convert: Callable[[np.ndarray], Any]
) -> normalize.Statistics | None:
    given = _nest(tensors, "normalizer", convert)
    if not given:
        return None
    statistics = normalize.Statistics(**given)
    shape = getattr(policy.spec.observation_space, "shape", statistics.mean.shape)
    # Flat statistics belong to flattened observations.
    if statistics.mean.shape != statistics.m2.shape or statistics.count.shape != ():
        raise ValueError(f"expected statistics of observations {shape}, got {statistics.mean.shape}")
    return statistics


def _flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in _leaves(prefix, tree).items()}


def _leaves(prefix: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"{prefix}: expected names without '/' as keys, got {name!r}.")
        leaves |= _leaves(f"{prefix}/{name}", value)
    return leaves


def _nest(tensors: Mapping[str, np.ndarray], prefix: str, convert: Callable[[np.ndarray], Any]) -> Any:
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        if name == prefix:
            return convert(value)
        first, *folders = name.split("/")
        if first == prefix:
            *folders, leaf = folders
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[leaf] = convert(value)
    return tree

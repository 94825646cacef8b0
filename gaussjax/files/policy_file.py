"""Reading a policy file: whatever is wrong with it ends as one kind of error."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize
from gaussjax.files import container
from gaussjax.files.container import PolicyFileError
from gaussjax.files.layout import FORMAT, leaves, nest
from gaussjax.files.limits import mismatches, refuse_bombs, strange_parts, strange_statistics
from gaussjax.policy import Params, Policy, from_spec


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
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> gaussjax.save(path, policy, policy.init(jax.random.key(0)), metadata={"environment": "mine"})
        >>> loaded = gaussjax.load(path)
        >>> loaded.metadata["environment"], loaded.normalizer
        ('mine', None)
    """
    return assemble(
        path,
        lambda spec: from_spec(spec, network),
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
    tensors, description = container.read(path)
    faults = []
    if description.get("format") != FORMAT:
        versions = description.get("versions")
        writer = versions.get("gaussjax") if isinstance(versions, dict) else None
        faults.append(
            f"expected format {FORMAT}, got {description.get('format')}: it was written by gaussjax {writer}; "
            f"use that version or newer"
        )
    strange = strange_parts(description)
    if strange:
        raise PolicyFileError(f"{path}: {'; '.join([*faults, *strange])}. Make the file anew.")
    try:
        policy = _rebuild(description, build, len(tensors))
        expected = leaves("params", shapes(policy))
        statistics = _statistics(tensors, policy, convert)
    except Exception as error:
        # Whatever a file that is not ours can bring about ends here, as one kind of error.
        faults.append(f"expected a policy that can be built, got a fault: {str(error)[:500]}")
        raise PolicyFileError(f"{path}: {'; '.join(faults)}") from error
    kept = functools.cache(lambda dtype: convert(np.empty(0, dtype)).dtype)
    faults += mismatches(tensors, expected, description.get("cast", ()), kept)
    if faults:
        raise PolicyFileError(
            f"{path}: {'; '.join(faults)}. Load it with the gaussjax and the network= that it was saved with."
        )
    container.refuse_nan(tensors, path)
    metadata = description.get("metadata", {})
    return Loaded(
        policy, nest(tensors, "params", convert), statistics, {**metadata, "versions": description.get("versions")}
    )


def summary(path: str | os.PathLike[str]) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """What a file says of itself, for people to read, without building the policy.

    Returns:
        Names and values; and of each array its name, type and shape.

    Raises:
        PolicyFileError: The file is damaged, or its description is not one of ours.
    """
    path = Path(path)
    tensors, description = container.read(path)
    strange = strange_parts(description)
    if strange:
        raise PolicyFileError(f"{path}: {'; '.join(strange)}. Make the file anew.")
    policy = description.get("policy", {})
    shown = {"format": description.get("format"), **{f"{key}": policy[key] for key in policy}}
    shown |= {f"metadata: {key}": value for key, value in description.get("metadata", {}).items()}
    shown |= {f"version: {key}": value for key, value in description.get("versions", {}).items()}
    count = sum(array.size for name, array in tensors.items() if name.startswith("params/"))
    shown |= {"parameters": f"{count:,}"} if policy else {}
    shown |= {"bytes": f"{path.stat().st_size:,}", "sha256": "as written"}
    arrays = [(name, str(array.dtype), str(array.shape)) for name, array in sorted(tensors.items())]
    return {name: str(value) for name, value in shown.items()}, arrays


def _rebuild(description: Mapping[str, Any], build: Callable[..., Policy], num_tensors: int) -> Policy:
    spec = description["policy"]
    # Text would be read as YAML, whose references can blow up; a file of ours never holds it.
    if not isinstance(spec, dict) or not isinstance(spec.get("network"), dict):
        raise ValueError(f"expected a description as dicts, got {type(spec).__name__}")
    refuse_bombs(spec, num_tensors)
    return build(spec)


def _statistics(
    tensors: Mapping[str, np.ndarray], policy: Policy, convert: Callable[[np.ndarray], Any]
) -> normalize.Statistics | None:
    given = nest(tensors, "normalizer", convert)
    if not given:
        return None
    statistics = normalize.Statistics(**given)
    strange = strange_statistics(statistics, policy.spec.observation_space)
    if strange:
        raise ValueError(f"normalizer: {strange}")
    return statistics

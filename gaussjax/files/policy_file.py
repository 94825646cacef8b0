"""Functions that write and read policy files: description, parameters and observation statistics of a policy."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from gaussjax import networks, normalize
from gaussjax.core.compiled import checked
from gaussjax.core.text import listed, printable, quoted, shortened
from gaussjax.core.trees import check_shapes
from gaussjax.files import container, limits, statistics
from gaussjax.files.container import PolicyFileError
from gaussjax.policy import ActOutput, Kind, Params, Policy, checks, from_spec
from gaussjax.policy.serve import BoundAct, bound_act

FORMAT = 1
_LONGEST_FACT = 2000
_NEST_DICTS = (
    "A policy file holds nested dicts with text keys: give each layer of your network a name of its own, in place of "
    "a list of layers or an nnx.Sequential."
)


class _Content(NamedTuple):
    policy: Policy
    params: Params
    normalizer: normalize.Normalizer
    metadata: dict[str, Any]


class Loaded(_Content):
    """Content of a policy file.

    Attributes:
        policy: The policy, rebuilt from its description.
        params: Its parameters.
        normalizer: Observation statistics, nested like the observation space, or None.
        metadata: Metadata of the file. `metadata["versions"]` holds the versions of the libraries that wrote it.
    """

    def act(
        self, observations: Any, key: Any = None, *, carry: Any = None, resets: Any = None, noise: Any = None
    ) -> ActOutput:
        """Normalizes observations with the statistics of the file and calls `policy.act`, without computing a critic.

        Args:
            observations: Observations of the environment, with any leading dimensions. Entries of a Dict that only a
                critic needs may be missing.
            key: PRNG key, consumed. Without a key and without noise the actions are deterministic.
            carry: Recurrent state: `initial_carry()` at first, then `outputs["carry"]` of the previous call.
            resets: For a recurrent network, one bool for each observation, True at the start of an episode.
            noise: Standard normal noise in place of a key, as for `policy.act`, such as `gaussjax.exploration` gives.
        """
        return self._bound_act(observations, key, carry=carry, resets=resets, noise=noise)

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """Returns the first `carry`: zeros `(*batch_shape, …)`, or `()` for a network that is not recurrent."""
        return networks.actor(self.policy, self.params)[0].initial_carry(batch_shape)

    def __getstate__(self) -> None:
        """Returns None, because a copy compiles its own functions."""

    @functools.cached_property
    def _bound_act(self) -> BoundAct:
        return bound_act(self.policy, self.params, self.normalizer)


def save(
    path: str | os.PathLike[str] | BinaryIO,
    policy: Policy,
    params: Params,
    *,
    normalizer: normalize.Normalizer = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a policy to one file atomically: even after a crash, the path never holds an incomplete file.

    Args:
        path: Path of the file, or an open binary file such as `io.BytesIO`. An older file is replaced and keeps its
            mode; a link is replaced too, and its target is unchanged.
        policy: The policy, whose spec is written.
        params: Parameters of the policy.
        normalizer: Observation statistics with their clip, nested like the observation space, or None. The format
            number stays 1. Versions that did not store the clip raise an error for such a file, because they would act
            differently.
        metadata: JSON-able data, such as the name of the environment; numbers and arrays of NumPy become numbers and
            lists. `versions` is added.

    Raises:
        ValueError: The parameters do not fit the policy, hold NaN or are not in nested dicts; the normalizer has
            another shape or nesting than the observations, or a negative or infinite spread; or the metadata has an
            entry "versions" of its own, NaN or infinities.
        TypeError: The parameters hold a PRNG key, text or objects; or the policy, the normalizer or the metadata has
            another type.
        OSError: The file cannot be written; the error names the path, or its folder if that is missing.

    Example:
        >>> import gaussjax, os, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> gaussjax.save(path, policy, params)
        >>> gaussjax.load(path).policy.spec == policy.spec
        True
    """
    checks.policy(policy)
    place = container.place(path)
    if not isinstance(metadata, (Mapping, type(None))):
        raise TypeError(f"metadata: expected a dict with text as keys, got {type(metadata).__name__}. Pass a dict.")
    container.refuse_large(metadata or {}, "metadata")
    described = limits.plain(dict(metadata or {}), "metadata")
    # Metadata from `load` holds the library versions of the loaded file; the current versions replace them.
    versions = described.pop("versions", {"gaussjax": ""})
    if not isinstance(versions, Mapping) or "gaussjax" not in versions:
        raise ValueError(
            "metadata: expected names other than 'versions', got that one. It holds the versions of the libraries "
            "that write the file: leave it out, or use another name."
        )
    _refuse_keys(params, "params")
    expected = jax.eval_shape(policy.init, jax.random.key(0))
    check_shapes(params, expected, "params")
    tensors = _flatten("params", params)
    dtypes = {name: leaf.dtype for name, leaf in _leaves("params", expected).items()}
    # Parameters whose dtype differs from the network's were cast on purpose. The file lists their names, because
    # `load` raises for all other parameters with a different dtype.
    cast = sorted(name for name, array in tensors.items() if array.dtype != dtypes[name])
    tensors |= statistics.to_arrays(normalizer, policy.spec.observation_space)
    container.refuse_nan(tensors, place)
    spec = policy.spec.to_dict()
    limits.refuse_other_size(spec, tensors)
    description = {"format": FORMAT, "policy": spec, "cast": cast, "metadata": described}
    container.write(place, tensors, description)


def load(path: str | os.PathLike[str] | BinaryIO, network: Any = None, kind: Kind | None = None) -> Loaded:
    """Reads a policy file.

    Args:
        path: Path of the file, or a binary file that is open at its start, such as `io.BytesIO`.
        network: Your own network, if the policy was made with a network that is not part of gaussjax.
        kind: Your own kind, if `gaussjax.policy.build` made the policy with a kind that is not part of gaussjax.

    Returns:
        The policy, its parameters as JAX arrays, the observation statistics and the metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        PolicyFileError: The file is damaged, is a device or a FIFO, or describes more than it holds; or it does not fit
            this version or this network, and the first 20 mismatches are listed.

    Example:
        >>> import gaussjax, os, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> gaussjax.save(path, policy, policy.init(jax.random.key(0)), metadata={"environment": "mine"})
        >>> loaded = gaussjax.load(path)
        >>> loaded.metadata["environment"], loaded.normalizer
        ('mine', None)
        >>> loaded.act(np.zeros((5, 3), np.float32)).actions.shape
        (5, 1)
    """
    return assemble(
        path,
        lambda spec: from_spec(spec, network, kind),
        lambda policy: jax.eval_shape(policy.init, jax.random.key(0)),
        jnp.asarray,
    )


def assemble(
    path: str | os.PathLike[str] | BinaryIO,
    build: Callable[[Mapping[str, Any]], Policy],
    shapes: Callable[[Policy], Any],
    convert: Callable[[np.ndarray], Any],
) -> Loaded:
    """Reads a policy file into arrays of JAX or of another library.

    Args:
        path: Path of the file, or an open binary file.
        build: Function `(description) -> policy`.
        shapes: Function `(policy) -> parameters` under Flax's names; each leaf has a shape and a dtype.
        convert: Function from a NumPy array to an array of the library.

    Raises:
        FileNotFoundError: The file does not exist.
        PolicyFileError: As for `load`.
    """
    place = container.place(path)
    if isinstance(place, Path) and place.is_dir():
        raise IsADirectoryError(
            errno.EISDIR,
            "expected a policy file, got a folder. Name the policy.safetensors in it",
            path,
        )
    tensors, description = container.read(place)
    if description.get("kind") == "checkpoint":
        raise PolicyFileError(
            f"{path}: expected a policy, got the checkpoint of a training. Use policy.safetensors beside it, or "
            f"continue the training with gaussjax resume."
        )
    faults = []
    if description.get("format") != FORMAT:
        versions = description.get("versions")
        writer = versions.get("gaussjax") if isinstance(versions, dict) else None
        faults.append(
            f"expected format {FORMAT}, got {quoted(description.get('format'))}: it was written by gaussjax {writer}; "
            f"use that version or newer"
        )
    part_faults = limits.part_faults(description)
    if part_faults:
        raise PolicyFileError(f"{path}: {listed([*faults, *part_faults], '; ')}. Save it again.")
    try:
        spec = description["policy"]
        # The network must be a dict. Text would be parsed as YAML, whose references can expand without bound.
        if not isinstance(spec.get("network"), dict):
            raise ValueError(f"expected the network as a dict, got {type(spec.get('network')).__name__}")
        limits.refuse_other_size(spec, tensors)
        policy = build(spec)
        expected = _leaves("params", shapes(policy))
        normalizer = statistics.from_arrays(tensors, policy.spec.observation_space, convert)
    except Exception as error:
        # A faulty description can cause any error here; it becomes a PolicyFileError, so that callers catch one type.
        faults.append(f"expected a policy that can be built, got the error: {shortened(str(error), 500)}")
        raise PolicyFileError(f"{path}: {listed(faults, '; ')}") from error
    kept = functools.cache(lambda dtype: convert(np.empty(0, dtype)).dtype)
    faults += limits.mismatches(tensors, expected, description.get("cast", ()), kept)
    if faults:
        raise PolicyFileError(
            f"{path}: {listed(faults, '; ')}. Load it with the gaussjax and the network= that it was saved with."
        )
    container.refuse_nan(tensors, path)
    metadata = {**description.get("metadata", {}), "versions": description.get("versions")}
    return Loaded(policy, _nest(tensors, "params", convert), normalizer, metadata)


def summary(path: str | os.PathLike[str]) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Returns the content of a policy file or a checkpoint as printable text, without building the policy.

    Args:
        path: Path of the file.

    Returns:
        A dict of names and values in the description, and a list of the name, dtype and shape of each array. Control
        characters are escaped, and long values are shortened.

    Raises:
        PolicyFileError: The file is damaged, or a part of its description has the wrong type.
    """
    path = Path(path)
    tensors, description = container.read(path)
    faults = limits.part_faults(description)
    if faults:
        raise PolicyFileError(f"{path}: {listed(faults, '; ')}. Save it again.")
    policy = description.get("policy", {})
    facts = {"format": description.get("format"), **policy}
    facts |= {f"metadata: {key}": value for key, value in description.get("metadata", {}).items()}
    facts |= {f"version: {key}": value for key, value in description.get("versions", {}).items()}
    count = sum(array.size for name, array in tensors.items() if name.startswith("params/"))
    facts |= {"parameters": f"{count:,}"} if policy else {}
    facts |= {"bytes": f"{path.stat().st_size:,}", "sha256": "as written"}
    arrays = [(_fact(name), str(array.dtype), str(array.shape)) for name, array in sorted(tensors.items())]
    return {_fact(name): _fact(value) for name, value in facts.items()}, arrays


def _fact(value: Any) -> str:
    return shortened(printable(value), _LONGEST_FACT)


def _flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    """Returns the arrays in nested dicts as NumPy arrays, by names such as `params/head/bias`."""
    return {name: np.asarray(leaf) for name, leaf in _leaves(prefix, tree).items()}


def _leaves(prefix: str, tree: Any) -> dict[str, Any]:
    """Returns the leaves of nested dicts by name; raises for other containers and for names with a slash."""
    if not isinstance(tree, Mapping):
        if not jax.tree_util.all_leaves([tree]):
            raise ValueError(f"{prefix}: expected arrays in nested dicts, got {type(tree).__name__}. {_NEST_DICTS}")
        return {prefix: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"{prefix}: expected names without '/' as keys, got {quoted(name)}. {_NEST_DICTS}")
        found |= _leaves(f"{prefix}/{name}", value)
    return found


def _nest(tensors: Mapping[str, np.ndarray], prefix: str, convert: Callable[[np.ndarray], Any]) -> Any:
    """Returns the arrays whose names start with the prefix as nested dicts, or {} if there are none."""
    paths = {tuple(name.split("/")): value for name, value in tensors.items()}
    found = {path[1:]: convert(value) for path, value in paths.items() if path[0] == prefix}
    return found[()] if () in found else unflatten_dict(found)


def _refuse_keys(tree: Any, name: str) -> None:
    """Raises TypeError if a leaf of the tree is a typed PRNG key, which a file cannot hold."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    for path, leaf in leaves:
        if hasattr(leaf, "detach"):  # A tensor of torch.
            checked(leaf, f"{name}{jax.tree_util.keystr(path)}", name)
    typed = [path for path, leaf in leaves if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)]
    if typed:
        keys = [f"{name}{jax.tree_util.keystr(path)}" for path in typed]
        raise TypeError(
            f"{listed(keys)}: expected arrays of numbers, got PRNG keys. Store jax.random.key_data(key), and "
            f"make the key again with jax.random.wrap_key_data."
        )

"""One policy, one file: tensors, description and observation statistics, checked by a digest.

The file is safetensors, readable without gaussjax. Its metadata holds a JSON description of the
policy and a sha256 over the whole file, so that a flipped bit anywhere is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from gaussjax import checks, factories, normalize
from gaussjax.policy import Params, Policy

FORMAT = 1
_NO_DIGEST = "0" * 64
# safetensors' own NumPy reader does not know bfloat16.
_DTYPES = {
    "BF16": jnp.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
    "U32": np.uint32,
    "BOOL": np.bool_,
}
# With its quotes: inside the description, which is a string of the header, they are escaped.
_DIGEST_FIELD = '"sha256":"{}"'


class PolicyFileError(ValueError):
    """A policy file that cannot be read: damaged, of another version, or no policy file."""


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
    checks.tree(params, jax.eval_shape(policy.init, jax.random.key(0)), "params")
    tensors = _flatten("params", params)
    if normalizer is not None:
        tensors |= _flatten("normalizer", normalizer._asdict())
    _refuse_nan(tensors, path)
    description = {
        "format": FORMAT,
        "policy": policy.spec.to_dict(),
        "metadata": dict(metadata or {}),
        "versions": {name: importlib.metadata.version(name) for name in ("gaussjax", "jax", "flax")},
    }
    payload = safetensors.numpy.save(
        tensors, {"gaussjax": json.dumps(description, sort_keys=True), "sha256": _NO_DIGEST}
    )
    write_atomically(path, _with_digest(payload, _NO_DIGEST, hashlib.sha256(payload).hexdigest()))


def load(path: str | os.PathLike[str], network: Any = None) -> Loaded:
    """Reads a policy file.

    Args:
        path: Of the file.
        network: Your own network, where the policy was made with one.

    Raises:
        FileNotFoundError: There is no such file.
        PolicyFileError: The file is damaged, or not one that this version reads.
    """
    description, tensors = read(path)
    policy = factories.from_spec(description["policy"], network)
    params = nest(tensors, "params", jnp.asarray)
    checks.tree(params, jax.eval_shape(policy.init, jax.random.key(0)), f"{path}: params")
    return loaded(policy, params, description, nest(tensors, "normalizer", jnp.asarray))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a policy file, in NumPy.

    Raises:
        FileNotFoundError: There is no such file.
        PolicyFileError: The file is damaged, or not one that this version reads.
    """
    path = Path(path)
    payload = path.read_bytes()
    description = _verified_description(payload, path)
    if description.get("format") != FORMAT:
        raise PolicyFileError(
            f"{path}: expected format {FORMAT}, got {description.get('format')}. "
            f"It was written by gaussjax {description.get('versions', {}).get('gaussjax')}; use that version or newer."
        )
    tensors = {name: _read_tensor(**tensor) for name, tensor in safetensors.deserialize(payload)}
    _refuse_nan(tensors, path)
    return description, tensors


def loaded(policy: Policy, params: Any, description: dict[str, Any], statistics: dict[str, Any]) -> Loaded:
    """What was read, put together."""
    return Loaded(
        policy,
        params,
        normalize.Statistics(**statistics) if statistics else None,
        {**description["metadata"], "versions": description["versions"]},
    )


def write_atomically(path: Path, payload: bytes) -> None:
    """Replaces a file by other bytes: temporary file, flush, rename, flush of the folder."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _verified_description(payload: bytes, path: Path) -> dict[str, Any]:
    damaged = f"{path}: expected a policy file written by gaussjax.save, got"
    length = int.from_bytes(payload[:8], "little")
    if len(payload) < 8 or length > len(payload) - 8:
        raise PolicyFileError(f"{damaged} {len(payload)} bytes that end too early. Copy the file again.")
    try:
        header = json.loads(payload[8 : 8 + length])
        digest = header["__metadata__"]["sha256"]
        description = header["__metadata__"]["gaussjax"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PolicyFileError(f"{damaged} a header without its description. It may be damaged.") from error
    if hashlib.sha256(_with_digest(payload, digest, _NO_DIGEST)).hexdigest() != digest:
        raise PolicyFileError(f"{damaged} bytes whose sha256 is another one. The file is damaged; copy it again.")
    return json.loads(description)


def _with_digest(payload: bytes, old: str, new: str) -> bytes:
    return payload.replace(_DIGEST_FIELD.format(old).encode(), _DIGEST_FIELD.format(new).encode(), 1)


def _flatten(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    if not isinstance(tree, Mapping):
        # safetensors takes the bytes as they lie in memory: a transposed view would be scrambled.
        return {prefix: np.ascontiguousarray(tree).reshape(np.shape(tree))}
    tensors: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if not isinstance(name, str) or "/" in name:
            raise ValueError(f"{prefix}: expected names without '/' as keys, got {name!r}.")
        tensors |= _flatten(f"{prefix}/{name}", value)
    return tensors


def _read_tensor(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def nest(tensors: Mapping[str, np.ndarray], prefix: str, convert: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """The arrays under a prefix as the tree they were."""
    tree: dict[str, Any] = {}
    for name, value in tensors.items():
        first, *folders, leaf = name.split("/")
        if first == prefix:
            branch = tree
            for folder in folders:
                branch = branch.setdefault(folder, {})
            branch[leaf] = convert(value)
    return tree


def _refuse_nan(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    broken = [name for name, value in tensors.items() if np.isnan(value).any()]
    if broken:
        raise ValueError(f"{path}: expected numbers, got NaN in {broken}. Save the last good parameters instead.")

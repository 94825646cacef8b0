"""Writing a policy file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize
from gaussjax.core.trees import check_shapes
from gaussjax.files import container
from gaussjax.files.layout import FORMAT, flatten, leaves
from gaussjax.files.limits import strange_statistics
from gaussjax.policy import Params, Policy


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
        metadata: Anything JSON-able, such as the environment's name; `versions` is written beside it.

    Raises:
        ValueError: The parameters are not this policy's, hold NaN or lie in anything but dicts; the normalizer is of
            other observations; or the metadata has an entry "versions" of yours.
        TypeError: A PRNG key, text or objects among the parameters, or a normalizer of another type.

    Example:
        >>> import gaussjax, jax, os, tempfile
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> gaussjax.save(path, policy, params)
        >>> gaussjax.load(path).policy.spec == policy.spec
        True
    """
    path = Path(path)
    metadata = dict(metadata or {})
    # What `load` put there is written anew.
    versions = metadata.pop("versions", {"gaussjax": ""})
    if not isinstance(versions, Mapping) or "gaussjax" not in versions:
        raise ValueError(
            "metadata: expected names other than 'versions', got that one. The versions of the libraries that write "
            "the file take its place: leave it out, or call it otherwise."
        )
    _refuse_keys(params, "params")
    expected = jax.eval_shape(policy.init, jax.random.key(0))
    check_shapes(params, expected, "params")
    tensors = flatten("params", params)
    wanted = {name: leaf.dtype for name, leaf in leaves("params", expected).items()}
    # Parameters in another type than the network makes are meant, and said so to the reader.
    cast = sorted(name for name, array in tensors.items() if array.dtype != wanted[name])
    if normalizer is not None:
        if not isinstance(normalizer, normalize.Statistics):
            kind = type(normalizer).__name__
            raise TypeError(f"normalizer: expected Statistics, got {kind}. {normalize.MAKE_STATISTICS}")
        strange = strange_statistics(normalizer, policy.spec.observation_space)
        if strange:
            raise ValueError(
                f"normalizer: {strange}. Begin with normalize.init(shape), for the shape of one observation."
            )
        tensors |= flatten("normalizer", normalizer._asdict())
    container.refuse_nan(tensors, path)
    description = {
        "format": FORMAT,
        "policy": policy.spec.to_dict(),
        "cast": cast,
        "metadata": metadata,
    }
    container.write(path, tensors, description)


def _refuse_keys(tree: Any, name: str) -> None:
    """Refuses typed PRNG keys among the leaves, and says how to store them."""
    keys = [
        f"{name}{jax.tree_util.keystr(path)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
        if jnp.issubdtype(getattr(leaf, "dtype", None) or np.float32, jax.dtypes.prng_key)
    ]
    if keys:
        raise TypeError(
            f"{', '.join(keys)}: expected arrays of numbers, got PRNG keys. Store jax.random.key_data(key), and "
            f"make the key again with jax.random.wrap_key_data."
        )

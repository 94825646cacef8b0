"""Policy files of torch policies, in the format of `gaussjax.save`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import jax
import numpy as np
import torch

from gaussjax import files, normalize
from gaussjax import policy as policies
from gaussjax.policy import Kind, Policy
from gaussjax.torch import convert
from gaussjax.torch.arrays import tensor
from gaussjax.torch.policy import from_spec, own_kind


def load(path: str | os.PathLike[str] | BinaryIO, kind: Kind | None = None) -> files.Loaded:
    """Reads a policy file written by `gaussjax.save` or `gaussjax.torch.save`.

    Args:
        path: Path of the file, or an open binary file. The network of the policy must be part of gaussjax.
        kind: Your own kind, if the kind of the policy is not part of gaussjax. Its functions get tensors.

    Returns:
        The policy, its parameters as a dict of tensors, the observation statistics and the metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        PolicyFileError: The file is damaged, has another format, or its network is not part of gaussjax.

    Example:
        >>> import gaussjax.torch, tempfile
        >>> policy = gaussjax.torch.from_spec(gaussjax.gaussian(gaussjax.networks.MLP(()), 3, (2,)).spec)
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> save(path, policy, policy.init(gaussjax.torch.key(0)))
        >>> loaded = load(path)
        >>> loaded.policy.act(loaded.params, None, torch.zeros(3), deterministic=True).actions.shape
        torch.Size([2])
    """
    loaded = files.assemble(
        path,
        lambda spec: from_spec(spec, kind=kind),
        lambda policy: {"params": convert.flax_shapes(list(convert.leaves(convert.network(policy.spec, kind))))},
        lambda array: array,
    )
    return loaded._replace(
        params=convert.to_torch(loaded.policy.spec, loaded.params, kind),
        normalizer=jax.tree.map(tensor, loaded.normalizer),
    )


def save(
    path: str | os.PathLike[str] | BinaryIO,
    policy: Policy,
    params: Mapping[str, torch.Tensor],
    *,
    normalizer: normalize.Normalizer = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a torch policy to a policy file, as `gaussjax.save` does for the corresponding JAX policy.

    Args:
        path: Path of the file, which is replaced, or an open binary file.
        policy: The torch policy, whose spec is written.
        params: Parameters of the policy, as a dict of tensors.
        normalizer: Observation statistics, or None.
        metadata: A dict of further data that JSON can represent, or None.

    Raises:
        ValueError: The parameters do not belong to this policy, or contain NaN.
        TypeError: The network is a torch module of your own.

    Example:
        >>> import gaussjax.torch, tempfile
        >>> policy = gaussjax.torch.from_spec(gaussjax.gaussian(gaussjax.networks.MLP(()), 3, (2,)).spec)
        >>> path = os.path.join(tempfile.mkdtemp(), "policy.safetensors")
        >>> save(path, policy, policy.init(gaussjax.torch.key(0)), metadata={"robot": "mine"})
        >>> gaussjax.load(path).metadata["robot"]
        'mine'
    """
    if isinstance(policy.spec.network, torch.nn.Module):
        name = type(policy.spec.network).__name__
        raise TypeError(
            f"network: expected one of gaussjax.networks, got {name}. A policy file cannot describe a module of your "
            f"own; write its parameters with torch.save."
        )
    statistics = jax.tree.map(
        lambda part: np.asarray(part.detach().cpu()) if isinstance(part, torch.Tensor) else part, normalizer
    )
    kind = own_kind(policy)
    twin, arrays = policies.from_spec(policy.spec, kind=kind), convert.to_flax(policy.spec, params, kind)
    files.save(path, twin, arrays, normalizer=statistics, metadata=metadata)

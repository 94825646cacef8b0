"""Conversion of parameters from Flax's layout to torch's and back, without rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch import nn

from gaussjax.core.trees import check_shapes
from gaussjax.networks.description import bind
from gaussjax.policy import Kind, Spec, from_spec
from gaussjax.spaces import size
from gaussjax.torch.layers import RECURRENT_NAMES, Conv, Dense, Norm, RecurrentLayers
from gaussjax.torch.networks import CNN, make_on_meta


class Leaf(NamedTuple):
    """One parameter, as it is stored in Flax and in torch.

    Attributes:
        torch: Name of the parameter in the torch policy's dict of tensors.
        flax: Path of the parameter in Flax's tree, below "params".
        shape: Shape of the parameter in torch.
        to_torch: Function from a tensor in Flax's layout to torch's layout.
        to_flax: Inverse of `to_torch`.
        index: Position of the parameter among those of its Flax module, from which Flax derives a key.
        owner: The torch module that holds the parameter.
    """

    torch: str
    flax: tuple[str, ...]
    shape: tuple[int, ...]
    to_torch: Callable[[torch.Tensor], torch.Tensor]
    to_flax: Callable[[torch.Tensor], torch.Tensor]
    index: int
    owner: nn.Module


def to_torch(spec: Spec, params: Any, kind: Kind | None = None) -> dict[str, torch.Tensor]:
    """Converts the parameters of a JAX policy to torch's names and layouts, without rounding.

    Args:
        spec: The spec of the JAX policy or of its torch counterpart.
        params: Parameters from the JAX policy's `init`, as JAX or NumPy arrays.
        kind: Your own kind, if the spec names a kind that is not part of gaussjax.

    Returns:
        A dict of tensors by name, like the one that the torch policy's `init` returns.

    Raises:
        ValueError: Arrays are missing, unknown or of another shape; the error lists them.
        TypeError: The network is not one of gaussjax's own.

    Example:
        >>> import gaussjax, jax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> tensors = to_torch(policy.spec, policy.init(jax.random.key(0)))
        >>> sorted(tensors)
        ['head.log_std', 'head.mean.bias', 'head.mean.weight', 'layers.dense_0.bias', 'layers.dense_0.weight']
    """
    found = list(leaves(network(spec, kind)))
    check_shapes(params, {"params": flax_shapes(found)}, "params")
    arrays = flatten_dict(params["params"])
    return {leaf.torch: leaf.to_torch(tensor_of(arrays[leaf.flax])).contiguous() for leaf in found}


def to_flax(spec: Spec, tensors: Mapping[str, torch.Tensor], kind: Kind | None = None) -> dict[str, Any]:
    """Converts the parameters of a torch policy to the pytree of a JAX policy, without rounding.

    Args:
        spec: The spec of the torch policy or of its JAX counterpart.
        tensors: A dict of tensors by name, such as the torch policy's `init` returns.
        kind: Your own kind, if the spec names a kind that is not part of gaussjax.

    Returns:
        A pytree of NumPy arrays, like the one that the JAX policy's `init` returns.

    Raises:
        ValueError: Tensors are missing, unknown or of another shape; the error lists them.
        TypeError: The network is not one of gaussjax's own.

    Example:
        >>> import gaussjax, jax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> params = policy.init(jax.random.key(0))
        >>> back = to_flax(policy.spec, to_torch(policy.spec, params))
        >>> jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, back))
        True
    """
    found = list(leaves(network(spec, kind)))
    check_shapes(dict(tensors), {leaf.torch: _like(leaf.shape) for leaf in found}, "params")
    arrays = {leaf.flax: _array(leaf.to_flax(tensors[leaf.torch].detach().cpu())) for leaf in found}
    return {"params": unflatten_dict(arrays)}


def flax_shapes(found: list[Leaf]) -> dict[str, Any]:
    """Returns the Flax tree of these parameters, with a broadcast zero in place of each array to save memory."""
    return unflatten_dict(
        {leaf.flax: _like(leaf.to_flax(torch.empty(leaf.shape, device="meta")).shape) for leaf in found}
    )


def network(spec: Spec, kind: Kind | None = None) -> nn.Module:
    """Builds the torch module of a spec on the meta device, where tensors have a shape but no data."""
    fields = from_spec(spec, kind=kind).kind.network_fields
    return make_on_meta(bind(spec.network, spec.observation_space, size(spec.action_space), fields))


def leaves(module: nn.Module, name: str = "", path: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yields the parameters of a module that `gaussjax.torch.networks.make` built."""
    if isinstance(module, RecurrentLayers) and module.described.cell != "mingru":
        for i in range(module.described.num_layers):
            for index, (ours, theirs) in enumerate(zip(RECURRENT_NAMES, _RECURRENT, strict=True)):
                tensor = getattr(module, f"{ours}_l{i}")
                turn = _transposed if tensor.ndim == 2 else _same
                place = (*path, f"layer_{i}", theirs)
                yield Leaf(f"{name}{ours}_l{i}", place, tuple(tensor.shape), turn, turn, index, module)
        return
    names = _NAMES.get(next((kind for kind in _NAMES if isinstance(module, kind)), nn.Module), {})
    for index, (ours, tensor) in enumerate(module.named_parameters(recurse=False)):
        theirs, to_torch, to_flax = names.get(ours, (ours, _same, _same))
        yield Leaf(f"{name}{ours}", (*path, theirs), tuple(tensor.shape), to_torch, to_flax, index, module)
    for ours, child in module.named_children():
        joined = isinstance(module, (nn.ModuleList, nn.ModuleDict))
        below = (*path[:-1], f"{path[-1]}_{ours}") if joined else (*path, ours)
        for leaf in leaves(child, f"{name}{ours}.", below):
            if isinstance(module, CNN) and leaf.flax == (*path, "layers", "dense_0", "kernel"):
                leaf = _flattened(leaf, module.flattened)
            yield leaf


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _transposed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.mT


# Flax's name of each torch parameter, the function to torch's layout and the function to Flax's layout.
_RECURRENT = ("kernel_input", "kernel_hidden", "bias_input", "bias_hidden")
_NAMES: dict[type[nn.Module], dict[str, tuple[str, Any, Any]]] = {
    Dense: {"weight": ("kernel", _transposed, _transposed)},
    Conv: {"weight": ("kernel", lambda t: t.permute(3, 2, 0, 1), lambda t: t.permute(2, 3, 1, 0))},
    Norm: {"weight": ("scale", _same, _same)},
}


def _flattened(leaf: Leaf, image: tuple[int, int, int]) -> Leaf:
    # Flax flattens images in the order height, width, channel; torch in the order channel, height, width.
    height, width, channels = image

    def there(kernel: torch.Tensor) -> torch.Tensor:
        blocks = kernel.reshape(height, width, channels, -1).permute(2, 0, 1, 3)
        return blocks.reshape(kernel.shape).mT

    def back(weight: torch.Tensor) -> torch.Tensor:
        blocks = weight.mT.reshape(channels, height, width, -1).permute(1, 2, 0, 3)
        return blocks.reshape(weight.mT.shape)

    return leaf._replace(to_torch=there, to_flax=back)


def tensor_of(array: Any) -> torch.Tensor:
    """Copies a NumPy or JAX array, of any dtype including bfloat16, to a tensor."""
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array))


def _array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return tensor.contiguous().numpy()


def _like(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.float32(0), tuple(shape))

"""A network from a description: a small graph of named nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.networks.expressions import evaluate, parse
from gaussjax.networks.layers import ACTIVATIONS, dense, kernel_initializer
from gaussjax.networks.mlp import Network
from gaussjax.networks.nodes import Layer, read_nodes
from gaussjax.networks.recurrent.cells import refuse_none
from gaussjax.networks.recurrent.layers import CELL_NAMES, RecurrentLayers


class _Value(NamedTuple):
    """An array with the number of axes that one element has."""

    array: Array
    rank: int


class _Observed(NamedTuple):
    """Observations with their space, or None where the space is unknown."""

    value: Any
    space: spaces.Space | None


class Graph(Network):
    """A network of named nodes; the input of a node is observations or the outputs of earlier nodes.

    Attributes:
        nodes: Dicts with `name`, `input` (an expression, "observations" by default), `layers` and
            optionally `activations` (one for all linear and conv layers, or a list). A layer is a
            width, the name of an activation, or one of `{"linear": 64}`, `{"conv": {"features":
            32, "kernel": 8, "stride": 4}}`, "flatten", "norm", `{"lstm": 64}`, and likewise gru,
            rnn, rnn_relu and mingru.
        output: Expression of the head's input; the last node by default.
        value: Expression of the input of a linear layer that gives `outputs["value"]`, or None.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = Graph(
        ...     nodes=[
        ...         {"name": "place", "input": "observations['place'][0:2]", "layers": [16, "relu"]},
        ...         {"name": "both", "input": "concatenate([place, observations['goal']])", "layers": [8, "tanh"]},
        ...     ],
        ...     value="both",
        ... )
        >>> box = gaussjax.spaces.Box(shape=(3,))
        >>> policy = gaussjax.gaussian(network, gaussjax.spaces.Dict((("goal", box), ("place", box))), box)
        >>> observations = {"goal": jnp.zeros((5, 3)), "place": jnp.zeros((5, 3))}
        >>> policy.apply(policy.init(jax.random.key(0)), observations)[1]["value"].shape
        (5,)
    """

    nodes: Any
    output: str | None = None
    value: str | None = None

    def __post_init__(self) -> None:
        """Read the nodes, so that errors are raised where the network is written."""
        nodes = read_nodes(self.nodes)
        object.__setattr__(self, "nodes", nodes)
        names = [node.name for node in nodes]
        for field in ("output", "value"):
            if getattr(self, field) is not None:
                parse(getattr(self, field), ("observations", *names), field)
        if self.norm is not None:
            raise ValueError("norm: expected None for a Graph. Put the layer 'norm' where it belongs.")
        super().__post_init__()

    def setup(self) -> None:
        """The layers with parameters, the head and the value's layer."""
        parts = {f"{node.name}_{i}": self._part(layer) for node in self.nodes for i, layer in enumerate(node.layers)}
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.head = self.gaussian_head()
        if self.value is not None:
            self.value_layer = dense(1, None, self.initializer, 1.0)

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> Any:
        """The carries of the recurrent layers by node and place, or `()`."""
        return {
            f"{node.name}_{i}": self.recurrent_layers(layer, parent=None).initial_carry(tuple(batch_shape), zeros)
            for node in self.nodes
            for i, layer in enumerate(node.layers)
            if layer.kind in CELL_NAMES
        } or ()

    def features(self, observations: Any, carry: Any = (), resets: Any = None) -> Any:
        """The head's input; a recurrent graph returns the new carry too."""
        features, _, carries = run(self, observations, carry, resets)
        return (features, carries) if carries else features

    def __call__(
        self, observations: spaces.Observations, carry: Any = (), resets: Any = None
    ) -> tuple[Float[Array, "... act"], Float[Array, "..."], dict[str, Any]]:
        """The mean `(…, act)`, log_std, and outputs with `carry` and `value` if the graph has them."""
        features, valued, carries = run(self, observations, carry, resets)
        mean, log_std, outputs = self.head(features)
        if carries:
            outputs = {**outputs, "carry": carries}
        if self.value is not None:
            value = self.value_layer(*xp.at_least_float32(valued))
            outputs = {**outputs, "value": xp.squeeze(value, -1)}
        return mean, log_std, outputs

    @nn.nowrap
    def recurrent_layers(self, layer: Layer, **linen: Any) -> RecurrentLayers:
        """The recurrent layers that one layer of a node describes."""
        shape = (layer.kind, *(dict(layer.options)[name] for name in ("hidden_size", "num_layers")))
        return RecurrentLayers(*shape, self.initializer, self.dtype, **linen)

    def _part(self, layer: Layer) -> nn.Module | None:
        options = dict(layer.options)
        if layer.kind == "linear":
            return dense(options["features"], None, self.initializer, self.scale, self.dtype)
        if layer.kind == "conv":
            kernel, stride = (options["kernel"],) * 2, (options["stride"],) * 2
            start = kernel_initializer(self.initializer, self.scale)
            return nn.Conv(options["features"], kernel, stride, options["padding"], dtype=self.dtype, kernel_init=start)
        if layer.kind == "norm":
            return nn.LayerNorm(dtype=self.dtype)
        return self.recurrent_layers(layer) if layer.kind in CELL_NAMES else None


def run(network: Any, observations: Any, carry: Any, resets: Any) -> tuple[Any, Any, dict[str, Any]]:
    """The head's input, the value layer's input or None, and the new carries, in any library."""
    if network.initial_carry():
        refuse_none(carry)
    activations = getattr(network, "activations", ACTIVATIONS)
    values: dict[str, Any] = {"observations": _Observed(observations, network.observation_space)}
    carries = {}
    for node in network.nodes:
        where = f"node {node.name!r}"
        value = _used(_evaluate(node.input, values, where, activations), where)
        for i, layer in enumerate(node.layers):
            name = f"{node.name}_{i}"
            if layer.kind in CELL_NAMES:
                array, carries[name] = network.parts[name](_expect(value, 1, layer, where).array, carry[name], resets)
                value = _Value(array, 1)
            else:
                value = _apply(network, layer, name, value, where)
        values[node.name] = value
    valued = None if network.value is None else _vector(values, network.value, "value", activations)
    return _vector(values, network.output or network.nodes[-1].name, "output", activations), valued, carries


def _apply(network: Any, layer: Layer, name: str, value: _Value, where: str) -> _Value:
    batch_shape = value.array.shape[: value.array.ndim - value.rank]
    if layer.kind == "activation":
        function = getattr(network, "activations", ACTIVATIONS)[dict(layer.options)["name"]]
        return _Value(function(value.array), value.rank)
    if layer.kind == "flatten":
        return _Value(value.array.reshape(*batch_shape, math.prod(value.array.shape[len(batch_shape) :])), 1)
    if layer.kind == "conv":
        images = _expect(value, 3, layer, where).array
        out = network.parts[name](images.reshape(math.prod(batch_shape), *images.shape[-3:]))
        if 0 in out.shape[1:]:
            raise ValueError(
                f"{where}: conv: expected images of at least its kernel, {dict(layer.options)['kernel']}, got "
                f"{images.shape[-3]} × {images.shape[-2]}. Choose smaller kernels or strides, or padding='SAME'."
            )
        return _Value(out.reshape(*batch_shape, *out.shape[1:]), 3)
    rank = 1 if layer.kind == "linear" else value.rank
    return _Value(network.parts[name](_expect(value, rank, layer, where).array), rank)


def _vector(values: dict[str, Any], text: str, where: str, activations: Mapping[str, Any]) -> Array:
    value = _used(_evaluate(parse(text, values, where), values, where, activations), where)
    return _expect(value, 1, None, where).array


def _evaluate(tree: tuple[Any, ...], values: dict[str, Any], where: str, activations: Mapping[str, Any]) -> Any:
    def key(value: Any, name: Any) -> Any:
        if not isinstance(value, _Observed):
            raise ValueError(f"{where}: expected observations before the key {name!r}. A slice a:b cuts a vector.")
        match value.space:
            case spaces.Dict(items=items):
                inner = choose(dict(items), name, f"{where}: observation key")
            case spaces.Tuple(items=items) if isinstance(name, int) and -len(items) <= name < len(items):
                inner = items[name]
            case None:
                inner = None
            case _:
                raise ValueError(f"{where}: expected a Dict or Tuple space with {name!r}, got {value.space}.")
        return _Observed(value.value[name], inner)

    def cut(value: Any, slices: tuple[slice, ...]) -> _Value:
        array, rank = _used(value, where)
        if len(slices) > rank:
            raise ValueError(
                f"{where}: expected at most {rank} slices for elements with {rank} axes, got {len(slices)}."
            )
        return _Value(array[(slice(None),) * (array.ndim - rank) + slices], rank)

    def join(parts: list[Any]) -> _Value:
        used = [_used(part, where) for part in parts]
        if len({part.rank for part in used}) > 1:
            shapes = [part.array.shape for part in used]
            raise ValueError(
                f"{where}: concatenate: expected parts with as many axes, got {shapes}. Use 'flatten' first."
            )
        return _Value(xp.concatenate([part.array for part in used], -1), used[0].rank)

    def combine(operator: str, left: Any, right: Any) -> _Value:
        left, right = _used(left, where), _used(right, where)
        if left.array.shape != right.array.shape:
            raise ValueError(
                f"{where}: {operator}: expected the same shape, got {left.array.shape} and {right.array.shape}."
            )
        return _Value(left.array + right.array if operator == "+" else left.array * right.array, left.rank)

    def change(function: Callable[[Any], Any], value: Any) -> _Value:
        array, rank = _used(value, where)
        return _Value(function(array), rank)

    return evaluate(tree, values.__getitem__, key, cut, join, combine, change, activations)


def _used(value: Any, where: str) -> _Value:
    """Observations as an array: a Box in its shape, every other space as a flat vector."""
    if isinstance(value, _Value):
        return value
    if isinstance(value.space, spaces.Box):
        array, rank = value.value, len(value.space.shape)
        if value.space.dtype == "uint8" and rank > 1:
            array = array / 255
        return _Value(array, rank) if rank else _Value(array[..., None], 1)
    if value.space is not None:
        return _Value(spaces.flatten(value.space, value.value), 1)
    if not hasattr(value.value, "ndim"):
        raise ValueError(f"{where}: expected an array, got {type(value.value).__name__}. Name an entry by its key.")
    return _Value(value.value, 1)


def _expect(value: _Value, rank: int, layer: Layer | None, where: str) -> _Value:
    if value.rank != rank:
        kind = f"{layer.kind}: " if layer else ""
        shape = value.array.shape[value.array.ndim - value.rank :]
        repair = "Put the layer 'flatten' before it." if rank == 1 else "It takes images (height, width, channels)."
        raise ValueError(f"{where}: {kind}expected elements with {rank} axes, got {shape}. {repair}")
    return value

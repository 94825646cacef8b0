"""A network of named nodes, described by plain data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.networks.expressions import parse
from gaussjax.networks.heads import NetworkOutput
from gaussjax.networks.layers import ACTIVATIONS, dense, promoting
from gaussjax.networks.mlp import Network
from gaussjax.networks.nodes import Layer, read_nodes
from gaussjax.networks.recurrent.cells import guarded, refuse_none
from gaussjax.networks.recurrent.layers import CELL_NAMES, RecurrentLayers
from gaussjax.spaces.arrays import has_pixels


class _Value(NamedTuple):
    """An array, and the number of its axes after the batch axes."""

    array: Array
    rank: int


class _Observed(NamedTuple):
    """Observations with their space; an unknown space is None."""

    value: Any
    space: spaces.Space | None


class Graph(Network):
    """A network of named nodes. A node's input is an expression that uses observations and earlier nodes.

    Attributes:
        nodes: Dicts with `name`, `input` ("observations" by default), `layers` and optionally `activations` (one for
            all linear and conv layers, or a list). A layer is a width, the name of an activation, "flatten", "norm",
            `{"linear": 64}`, `{"conv": {"features": 32, "kernel": 8, "stride": 4}}`, or `{"lstm": 64}`. The layers
            gru, rnn, rnn_relu and mingru are written like lstm. Images of a Box of dtype uint8 are numbers from 0 to
            255, integers or floats, which the graph divides by 255.
        output: Expression for the head's input; None means the last node.
        value: Expression for the input of the linear layer that computes `outputs["value"]`; None means no value.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> place = {"name": "place", "input": "observations['place'][0:2]", "layers": [16, "relu"]}
        >>> both = {"name": "both", "input": "concatenate([place, observations['goal']])", "layers": [8, "tanh"]}
        >>> network = Graph([place, both], value="both")
        >>> box = gaussjax.spaces.Box(shape=(3,))
        >>> policy = gaussjax.gaussian(network, gaussjax.spaces.Dict((("goal", box), ("place", box))), box)
        >>> observations = {"goal": jnp.zeros((5, 3)), "place": jnp.zeros((5, 3))}
        >>> policy.apply(policy.init(jax.random.key(0)), observations)[1]["value"].shape
        (5,)
    """

    nodes: Any
    output: str | None = None
    value: str | None = None

    activations = ACTIVATIONS

    def __post_init__(self) -> None:
        """Validates the nodes, so that errors are raised when the network is made and not at its first use."""
        nodes = read_nodes(self.nodes)
        object.__setattr__(self, "nodes", nodes)
        names = ("observations", *(node.name for node in nodes))
        for field, text in (("output", self.output), ("value", self.value)):
            if text is not None:
                parse(text, names, field)
        if self.norm is not None:
            raise ValueError("norm: expected None for a Graph. Put the layer 'norm' where it belongs.")
        super().__post_init__()

    def setup(self) -> None:
        parts = {name: self._part(layer) for name, layer in self.named_layers().items()}
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.head = self.gaussian_head()
        if self.value is not None:
            self.value_layer = dense(1, None, self.initializer, 1.0)

    @nn.nowrap
    def named_layers(self) -> dict[str, Layer]:
        """Returns all layers by name: the node's name and the layer's index in the node, such as "body_0"."""
        return {f"{node.name}_{i}": layer for node in self.nodes for i, layer in enumerate(node.layers)}

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> Any:
        """Returns a dict with the initial carry of each recurrent layer by name, or `()` without recurrent layers."""
        return {
            name: self.recurrent_layers(layer, parent=None).initial_carry(tuple(batch_shape), zeros)
            for name, layer in self.named_layers().items()
            if layer.kind in CELL_NAMES
        } or ()

    def features(self, observations: Any, carry: Any = (), resets: Any = None) -> Any:
        """Returns the head's input; a recurrent graph returns the new carry too."""
        features, _, carries = run(self, observations, carry, resets)
        return (features, carries) if carries else features

    def __call__(self, observations: spaces.Observations, carry: Any = (), resets: Any = None) -> NetworkOutput:
        """Returns the mean, log_std and a dict of outputs, with `carry` and `value` if the graph has them."""
        with promoting():
            return forward(self, observations, carry, resets)

    @nn.nowrap
    def recurrent_layers(self, layer: Layer, **linen: Any) -> RecurrentLayers:
        """Returns the module for one recurrent layer of a node."""
        options = dict(layer.options)
        return RecurrentLayers(layer.kind, **options, initializer=self.initializer, dtype=self.dtype, **linen)

    def _part(self, layer: Layer) -> nn.Module | None:
        options = dict(layer.options)
        if layer.kind == "linear":
            return dense(options["features"], None, self.initializer, self.scale, self.dtype)
        if layer.kind == "conv":
            return self.convolution(**options)
        if layer.kind == "norm":
            return nn.LayerNorm(dtype=self.dtype)
        return self.recurrent_layers(layer) if layer.kind in CELL_NAMES else None


def forward(network: Any, observations: Any, carry: Any, resets: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Runs the forward pass of a `Graph`, in JAX or torch."""
    features, valued, carries = run(network, observations, carry, resets)
    call: Any = guarded if carries else lambda part, x: part(x)
    mean, log_std, outputs = call(network.head, features)
    if carries:
        outputs = {**outputs, "carry": carries}
    if network.value is not None:
        value = call(network.value_layer, *xp.at_least_float32(valued))
        outputs = {**outputs, "value": xp.squeeze(value, -1)}
    return mean, log_std, outputs


def run(network: Any, observations: Any, carry: Any, resets: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Runs all nodes; returns the head's input, the value layer's input or None, and the new carries."""
    if network.initial_carry():
        refuse_none(carry)
    values: dict[str, Any] = {"observations": _Observed(observations, network.observation_space)}
    carries = {}
    for node in network.nodes:
        where = f"node {node.name!r}"
        value = _evaluate(network, node.input, values, where)
        for i, layer in enumerate(node.layers):
            name, here = f"{node.name}_{i}", f"{where}: {layer.kind}"
            if layer.kind in CELL_NAMES:
                array, carries[name] = network.parts[name](_expect(value, 1, here), carry[name], resets)
                value = _Value(array, 1)
            else:
                value = _apply(network, layer, name, value, here, guarded if carry else lambda part, x, rank: part(x))
        values[node.name] = value

    def vector(text: str, where: str) -> Array:
        return _expect(_evaluate(network, parse(text, values, where), values, where), 1, where)

    valued = None if network.value is None else vector(network.value, "value")
    return vector(network.output or network.nodes[-1].name, "output"), valued, carries


def _apply(network: Any, layer: Layer, name: str, value: _Value, where: str, call: Callable[..., Any]) -> _Value:
    batch_shape = value.array.shape[: value.array.ndim - value.rank]
    if layer.kind == "activation":
        return _Value(network.activations[dict(layer.options)["name"]](value.array), value.rank)
    if layer.kind == "flatten":
        return _Value(value.array.reshape(*batch_shape, math.prod(value.array.shape[len(batch_shape) :])), 1)
    if layer.kind == "conv":
        images = _expect(value, 3, where)
        options = dict(layer.options)
        if options["padding"] == "VALID" and min(images.shape[-3:-1]) < options["kernel"]:
            raise ValueError(
                f"{where}: expected images of at least its kernel, {options['kernel']}, got "
                f"{images.shape[-3]} × {images.shape[-2]}. Choose smaller kernels or strides, or padding='SAME'."
            )
        out = call(network.parts[name], images.reshape(math.prod(batch_shape), *images.shape[-3:]), 3)
        return _Value(out.reshape(*batch_shape, *out.shape[1:]), 3)
    rank = 1 if layer.kind == "linear" else value.rank
    return _Value(call(network.parts[name], _expect(value, rank, where), rank), rank)


def _evaluate(network: Any, tree: tuple[Any, ...], values: dict[str, Any], where: str) -> _Value:
    """Evaluates a parsed expression; `values` has the nodes' arrays and the observations by name."""

    def evaluate(tree: tuple[Any, ...]) -> _Value:
        return _evaluate(network, tree, values, where)

    match tree:
        case ("name" | "key", *_):
            return _as_value(_find(tree, values, where), where)
        case ("slice", inner, slices):
            array, rank = evaluate(inner)
            if len(slices) > rank:
                raise ValueError(
                    f"{where}: expected at most {rank} slices for elements with {rank} axes, got {len(slices)}."
                )
            cuts = tuple(slice(*bounds) for bounds in slices)
            return _Value(array[(slice(None),) * (array.ndim - rank) + cuts], rank)
        case ("concatenate", trees):
            parts = [evaluate(part) for part in trees]
            if len({part.rank for part in parts}) > 1:
                raise ValueError(
                    f"{where}: concatenate: expected parts with equally many axes, got "
                    f"{[part.array.shape for part in parts]}. Use 'flatten' first."
                )
            return _Value(xp.concatenate([part.array for part in parts], -1), parts[0].rank)
        case ("scaled", number, inner):
            array, rank = evaluate(inner)
            return _Value(number * array, rank)
        case ("shifted", number, inner):
            array, rank = evaluate(inner)
            return _Value(number + array, rank)
        case ("call", name, inner):
            array, rank = evaluate(inner)
            return _Value(network.activations[name](array), rank)
    operator, (left, rank), (right, _) = tree[0], evaluate(tree[1]), evaluate(tree[2])
    if left.shape != right.shape:
        raise ValueError(f"{where}: {operator}: expected the same shape, got {left.shape} and {right.shape}.")
    return _Value(left + right if operator == "+" else left * right, rank)


def _find(tree: tuple[Any, ...], values: dict[str, Any], where: str) -> _Value | _Observed:
    """Looks up a node's value by its name, or an entry of the observations by its key."""
    if tree[0] == "name":
        return values[tree[1]]
    _, inner, key = tree
    value = _find(inner, values, where) if inner[0] in ("name", "key") else None
    if not isinstance(value, _Observed):
        raise ValueError(f"{where}: expected observations before the key {key!r}. For part of a vector use a:b.")
    match value.space:
        case spaces.Dict(items=items):
            space = choose(dict(items), key, f"{where}: observation key")
        case spaces.Tuple(items=items) if isinstance(key, int) and -len(items) <= key < len(items):
            space = items[key]
        case None:
            space = None
        case _:
            raise ValueError(f"{where}: expected a Dict or Tuple space with {key!r}, got {value.space}.")
    return _Observed(value.value[key], space)


def _as_value(value: Any, where: str) -> _Value:
    """Converts observations to an array: a Box keeps its shape, any other space becomes a flat vector."""
    if isinstance(value, _Value):
        return value
    if isinstance(value.space, spaces.Box):
        array, rank = value.value, len(value.space.shape)
        if has_pixels(value.space):
            array = (array if xp.is_floating(array) else xp.to_float32(array)) / 255
        return _Value(array, rank) if rank else _Value(array[..., None], 1)
    if value.space is not None:
        return _Value(spaces.flatten(value.space, value.value), 1)
    if not hasattr(value.value, "ndim"):
        raise ValueError(f"{where}: expected an array, got {type(value.value).__name__}. Select an entry by key.")
    return _Value(value.value, 1)


def _expect(value: _Value, rank: int, where: str) -> Array:
    if value.rank != rank:
        shape = value.array.shape[value.array.ndim - value.rank :]
        repair = "Put the layer 'flatten' before it." if rank == 1 else "The layer needs (height, width, channels)."
        raise ValueError(f"{where}: expected elements with {rank} axes, got {shape}. {repair}")
    return value.array

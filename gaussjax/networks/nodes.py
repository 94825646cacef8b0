"""The nodes of a `Graph`, read from plain data and written to it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.networks.expressions import parse, write
from gaussjax.networks.layers import ACTIVATIONS, named
from gaussjax.networks.recurrent.layers import CELL_NAMES

_REQUIRED = object()
# Options of each kind of layer, with their defaults. A plain value, as in {"linear": 64}, sets the first option.
LAYERS: Mapping[str, Mapping[str, Any]] = {
    "linear": {"features": _REQUIRED},
    "conv": {"features": _REQUIRED, "kernel": 3, "stride": 1, "padding": "VALID"},
    "flatten": {},
    "norm": {"kind": "layer"},
    "activation": {"name": _REQUIRED},
    **{cell: {"hidden_size": _REQUIRED, "num_layers": 1} for cell in CELL_NAMES},
}
# Allowed values of the options that are not positive integers.
_CHOICES = {"padding": dict.fromkeys(("VALID", "SAME")), "kind": {"layer": None}, "name": ACTIVATIONS}
_RESERVED = ("observations", "concatenate")
# Most characters in the inputs of all nodes, which bounds the operations of a graph.
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class Layer:
    """One layer of a node: its kind, which is a key of `LAYERS`, and its options as pairs (name, value)."""

    kind: str
    options: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Node:
    """A named sequence of layers. Later nodes refer to its output by name; `input` is a parsed expression."""

    name: str
    input: tuple[Any, ...]
    layers: tuple[Layer, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data from which `read_nodes` makes an equal node."""
        layers = [
            dict(layer.options)["name"] if layer.kind == "activation" else {layer.kind: dict(layer.options)}
            for layer in self.layers
        ]
        return {"name": self.name, "input": write(self.input), "layers": layers}


def read_nodes(described: Any) -> tuple[Node, ...]:
    """Reads nodes from plain data. The input of a node may use the observations and earlier nodes."""
    if not isinstance(described, (list, tuple)) or not described:
        raise ValueError(f"nodes: expected a list of nodes, got {quoted(described)}.")
    nodes: dict[str, Node] = {}
    length = 0
    for entry in described:
        if isinstance(entry, Node):
            entry = entry.to_dict()
        if not isinstance(entry, Mapping):
            raise ValueError(f"nodes: expected dicts with the keys name, input and layers, got {quoted(entry)}.")
        for key in entry:
            choose({"name": 0, "input": 0, "layers": 0, "activations": 0}, key, "field of a node")
        # Python normalises identifiers in expressions, full-width letters for one.
        name = unicodedata.normalize("NFKC", str(entry.get("name")))
        if not isinstance(entry.get("name"), str) or not name.isidentifier() or name in _RESERVED or name in nodes:
            raise ValueError(
                f"nodes: expected an unused identifier as name, got {quoted(entry.get('name'))}. "
                f"In use: {quoted([*_RESERVED, *nodes])}."
            )
        where, text = f"node {quoted(name)}", entry.get("input", "observations")
        length += len(str(text))
        if length > _MOST_CHARACTERS:
            raise ValueError(f"nodes: expected inputs of at most {_MOST_CHARACTERS:,} characters in all, got more.")
        tree = parse(text, {"observations", *nodes}, f"{where}: input")
        layers = entry.get("layers", ())
        if not isinstance(layers, (list, tuple)):
            raise ValueError(f"{where}: layers: expected a list, got {quoted(layers)}.")
        read = [_read_layer(layer, where) for layer in layers]
        nodes[name] = Node(name, tree, _activate(read, entry.get("activations"), where))
    return tuple(nodes.values())


def _read_layer(described: Any, where: str) -> Layer:
    described = named(described)
    if isinstance(described, str) and described in ACTIVATIONS:
        return Layer("activation", (("name", described),))
    if isinstance(described, int) and not isinstance(described, bool):
        described = {"linear": described}
    if isinstance(described, str):
        described = {described: {}}
    if not isinstance(described, Mapping) or len(described) != 1:
        raise ValueError(f"{where}: layer: expected a width, a name or {{'linear': 64}}, got {quoted(described)}.")
    kind, options = next(iter(described.items()))
    known = choose(LAYERS if kind in ACTIVATIONS else {**LAYERS, **ACTIVATIONS}, kind, f"{where}: layer")
    if options is not None and not isinstance(options, Mapping):
        if not known:
            raise ValueError(f"{where}: {kind}: expected no options, got {quoted(options)}.")
        options = {next(iter(known)): options}
    options = options or {}
    for option in options:
        choose(known, option, f"{where}: option of {kind}")
    complete = {**known, **options}
    for option, value in complete.items():
        if value is _REQUIRED:
            raise ValueError(f"{where}: {kind}: expected the option {option!r}, got none.")
        if option in _CHOICES:
            choose(_CHOICES[option], value, f"{where}: {kind}: {option}")
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{where}: {kind}: {option}: expected a positive integer, got {quoted(value)}.")
    return Layer(kind, tuple(complete.items()))


def _activate(layers: list[Layer], activations: Any, where: str) -> tuple[Layer, ...]:
    """Inserts the activations of a node after its linear and conv layers."""
    if activations is None:
        return tuple(layers)
    places = [i for i, layer in enumerate(layers) if layer.kind in ("linear", "conv")]
    activations = named(activations)
    names = [activations] * len(places) if isinstance(activations, str) else activations
    if not isinstance(names, (list, tuple)) or len(names) != len(places):
        raise ValueError(
            f"{where}: activations: expected one name or one for each of the {len(places)} linear and conv layers, "
            f"got {quoted(activations)}."
        )
    result = list(layers)
    for place, name in zip(places[::-1], names[::-1], strict=True):
        name = "identity" if name is None else named(name)
        choose(ACTIVATIONS, name, f"{where}: activation")
        result.insert(place + 1, Layer("activation", (("name", name),)))
    return tuple(result)

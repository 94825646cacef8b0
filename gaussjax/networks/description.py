"""Functions that describe networks as plain data, and build networks from it without executing code in it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gaussjax import spaces
from gaussjax.core import untrusted
from gaussjax.core.choices import choose
from gaussjax.core.compiled import count, flag, integer, refuse_traced
from gaussjax.core.text import printable, quoted, shortened
from gaussjax.networks.actor_critic import ActorCritic
from gaussjax.networks.cnn import CNN
from gaussjax.networks.expressions import parse_output_activation
from gaussjax.networks.graph import Graph
from gaussjax.networks.heads import STD_KINDS, check_std_floor, log_std
from gaussjax.networks.layers import INITIALIZERS, NORMS, factor, named, refuse_function
from gaussjax.networks.mlp import MLP
from gaussjax.networks.nodes import Node
from gaussjax.networks.recurrent.networks import GRU, LSTM, RNN, MinGRU

_NETWORKS: Mapping[str, type[nn.Module]] = {
    network.__name__: network for network in (ActorCritic, CNN, GRU, Graph, LSTM, MLP, MinGRU, RNN)
}
# Compute dtypes of the layers.
_DTYPES = ("bfloat16", "float16", "float32", "float64")
# Limits on descriptions. Real networks stay far below them.
_MOST_ENTRIES, _MOST_LAYERS, _LONGEST_YAML = 10_000, 256, 100_000
# Functions `(value, name)` that raise an error for a wrong value of a field of one of gaussjax's networks. None is
# valid for a field whose default is None.
_CHECKS: Mapping[str, Any] = {
    "initial_log_std": log_std,
    **dict.fromkeys(("scale", "output_scale"), factor),
    "std_floor": check_std_floor,
    **dict.fromkeys(("shared", "fast_backward", "off_diagonal", "scale_pixels", "full_std", "learn_features"), flag),
    **dict.fromkeys(("hidden_size", "num_layers", "sequence_length"), count),
    "memory_steps": integer,
    "std": lambda value, name: choose(dict.fromkeys(STD_KINDS), value, name),
    "norm": lambda value, name: choose(NORMS, value, name),
    "std_activation": lambda value, name: value == "expln" or parse_output_activation(value, "std"),
    "initializer": lambda value, name: (
        None if isinstance(value, str) and value in INITIALIZERS else choose(INITIALIZERS, value, name)
    ),
    "dtype": lambda value, name: choose(dict.fromkeys(_DTYPES), value, name),
}
# Fields that Flax adds to each linen module; they do not describe the network.
_LINEN = ("parent", "name")
# An open field, which `bind` fills in, has the value None; only the fields below have another value.
_OPEN = {"output_activation": "auto"}


def bind(
    network: Any, observation_space: spaces.Space, num_actions: int, fields: Iterable[tuple[str, Any]] = ()
) -> Any:
    """Fills in a network's open fields, such as `num_actions`; returns any object but a linen module unchanged.

    A field is open if its value is None, or "auto" for `output_activation`. A user's own linen module may have open
    fields. A module whose submodules get different spaces has a method `part_spaces(space) -> {field: space}`.
    Raises TypeError or ValueError for a wrong field of one of gaussjax's networks.
    """
    if not isinstance(network, nn.Module):
        return network
    if type(network) in _NETWORKS.values():
        _check_fields(network)
    fields = tuple(fields)
    fill = {**dict(fields), "num_actions": num_actions, "observation_space": observation_space}
    parts = network.part_spaces(observation_space) if hasattr(network, "part_spaces") else {}
    changes: dict[str, Any] = {}
    for field, value in _fields(network).items():
        space = parts.get(field, observation_space)
        if isinstance(value, nn.Module):
            changes[field] = bind(value, space, num_actions, fields)
        elif type(value) in (list, tuple):
            changes[field] = tuple(bind(part, space, num_actions, fields) for part in value)
        elif field in fill and (value is None or isinstance(value, str)) and value == _OPEN.get(field):
            changes[field] = fill[field]
    return network.clone(**changes)


def _check_fields(network: Any) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(network)}
    for field, value in _fields(network).items():
        if isinstance(value, (list, tuple)):
            refuse_traced(value, field)
        is_default = type(value) is type(defaults[field]) and value == defaults[field]
        # A field may be traced, such as the initial_log_std of a population.
        if field in _CHECKS and not is_default and not isinstance(value, Tracer):
            _CHECKS[field](value, field)
    if hasattr(network, "check"):
        network.check()
    if hasattr(network, "sizes"):
        network.dense_layers(parent=None).widths_and_activations()
    if hasattr(network, "gaussian_head"):
        network.gaussian_head(parent=None).start()


def hashable(network: Any) -> Any:
    """Converts a network's fields to plain values and tuples, so that its spec can be hashed and compared."""
    if not isinstance(network, nn.Module):
        return network
    changes: dict[str, Any] = {}
    # The fields of a user's own module are not converted, because its code may depend on their types.
    ours = type(network) in _NETWORKS.values()
    for field, value in _fields(network).items():
        value = _plain(value) if ours else value
        if type(value) in (list, tuple):
            changes[field] = tuple(map(hashable, value))
        elif ours or isinstance(value, nn.Module):
            changes[field] = hashable(value)
    return network.clone(**changes)


def identity(value: Any) -> Any:
    """Returns a hashable value, the same for equal networks; their fields may be arrays, dicts or lists."""
    if isinstance(value, nn.Module):
        return type(value), value.name, tuple((name, identity(field)) for name, field in _fields(value).items())
    # A NumPy number is compared as an array too, because its comparison with a tuple is an array.
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, Tracer):
        is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(value) if is_key else value)  # type: ignore[arg-type]
        return array.dtype.name, array.shape, array.tobytes()
    if isinstance(value, Mapping):
        return type(value), frozenset((name, identity(entry)) for name, entry in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = map(identity, value)
        return type(value), tuple(entries) if isinstance(value, (list, tuple)) else frozenset(entries)
    try:
        hash(value)
    except TypeError:
        return type(value), id(value)
    return value


def to_dict(network: Any) -> dict[str, Any]:
    """Describes a network as JSON data, without its observation space; a user's own network by its class name only."""
    if type(network) not in _NETWORKS.values():
        return {"type": "custom", "name": type(network).__qualname__}
    described = {
        field: _write(value)
        for field, value in _fields(network).items()
        if field != "observation_space" and not (field == "num_actions" and value is None)
    }
    return {"type": type(network).__name__, **described}


def from_spec(description: Mapping[str, Any] | str) -> nn.Module:
    """Builds the network that a dict or a YAML text describes, without executing code in the description.

    Args:
        description: A dict such as `{"type": "MLP", "sizes": [64, 32]}` with fields of the class, or `{"nodes": …}`
            for a `Graph`; or such a dict as YAML text.

    Returns:
        A module of `gaussjax.networks`.

    Raises:
        ValueError: The type, a field, or a name in a graph is unknown; the error suggests the nearest name. Or the
            description is too large: more than 10,000 entries, 256 layers or 100,000 characters of YAML.

    Example:
        >>> network = from_spec('''
        ... nodes:
        ...   - {name: body, input: observations, layers: [64, 32], activations: relu}
        ...   - {name: past, input: body, layers: [{gru: 16}]}
        ... output: concatenate([body, past])
        ... ''')
        >>> network.initial_carry((5,))["past_0"][0].shape
        (5, 16)
    """
    if isinstance(description, str):
        description = _read_yaml(description)
    try:
        untrusted.refuse_large(description, _MOST_ENTRIES)
    except ValueError as error:
        raise ValueError(f"network: {error}.") from error
    network = _build(description)
    num_layers = sum(count for _, count in widths(network))
    if num_layers > _MOST_LAYERS:
        raise ValueError(f"network: expected at most {_MOST_LAYERS} layers, got {num_layers:,}.")
    return network


def widths(network: Any) -> Iterator[tuple[int, int]]:
    """Yields the width and the number of equal layers for the layers that a network's fields name, without making them.

    A layer has at least as many parameters as its width, which is 0 if it may have none. A user's own network yields
    nothing.
    """
    fields = _fields(network) if type(network) in _NETWORKS.values() else {}
    if fields:
        yield 0, 3  # The head, or the critic's layers that no field names.
    for name, value in fields.items():
        if isinstance(value, nn.Module):
            yield from widths(value)
        elif name in ("sizes", "channels") and isinstance(value, tuple):
            yield from ((_count(width), 1) for width in value)
        elif name == "hidden_size":
            yield _count(value), _count(fields["num_layers"])
    if isinstance(network, Graph):
        for layer in network.named_layers().values():
            options = dict(layer.options)
            width = options.get("features", 0) * options.get("kernel", 1) ** 2
            yield width or options.get("hidden_size", 0), options.get("num_layers", 1)


def _count(value: Any) -> int:
    # Other types have errors of their own when the network is made.
    return max(0, value) if isinstance(value, (int, float)) else 0  # type: ignore[return-value]


def _read_yaml(text: str) -> Any:
    import yaml  # yaml is imported here because most programs never read YAML.

    if len(text) > _LONGEST_YAML:
        raise ValueError(f"network: expected YAML of at most {_LONGEST_YAML:,} characters, got {len(text):,}.")
    try:
        loader = yaml.SafeLoader(text)
        # The nodes are counted before data is made of them, because an alias or a merge key repeats a node.
        node = loader.get_single_node()
        untrusted.refuse_large(node, _MOST_ENTRIES)
        return None if node is None else loader.construct_document(node)
    except Exception as error:  # PyYAML raises errors of many types for values that do not fit their tags.
        reason = shortened(printable(" ".join(str(error).split())))
        raise ValueError(f"network: expected YAML of plain data, got invalid YAML: {reason}") from error


def _build(description: Any) -> nn.Module:
    """Builds the network of a description whose size has been checked."""
    if isinstance(description, Mapping) and "type" not in description and "nodes" in description:
        description = {"type": "Graph", **description}
    if not isinstance(description, Mapping) or "type" not in description:
        raise ValueError(f"network: expected a dict with the key 'type' or 'nodes', got {quoted(description)}.")
    if description["type"] == "custom":
        raise ValueError(
            f"network: {quoted(description.get('name'))} is not one of gaussjax's own networks. "
            f"Build it in your code and pass it as network=."
        )
    cls = choose(_NETWORKS, description["type"], "network type")
    fields = {name: field for name, field in inspect.signature(cls).parameters.items() if name not in _LINEN}
    arguments = {}
    for name, value in description.items():
        if name == "autodiff" and "fast_backward" in fields:
            continue  # Earlier policy files have the field autodiff, which changed no result.
        if name != "type":
            choose(fields, name, f"field of {description['type']}")
            arguments[name] = value if name == "nodes" else _read(value)
    lacking = [name for name, field in fields.items() if field.default is field.empty and name not in arguments]
    if lacking:
        raise ValueError(
            f"{description['type']}: expected the fields {quoted(lacking)}, got {quoted(sorted(arguments))}."
        )
    return cls(**arguments)


def _fields(network: nn.Module) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(network)]
    return {name: getattr(network, name) for name in names if name not in _LINEN}


def _plain(value: Any) -> Any:
    """Replaces dtypes and activations by their names and scalar arrays by numbers, also in tuples and lists."""
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, np.dtype) or (isinstance(value, type) and hasattr(value, "dtype")):
        return jnp.dtype(value).name
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not isinstance(value, Tracer) and value.ndim == 0:
        return value.item()
    return named(value)


def _write(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, nn.Module):
        return to_dict(value)
    if isinstance(value, Node):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_write(item) for item in value]
    return refuse_function(value)


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _build(value)
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    return value

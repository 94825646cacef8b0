"""Networks as plain data: to a dict, and from it by name, never by executing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.networks.actor_critic import ActorCritic
from gaussjax.networks.cnn import CNN
from gaussjax.networks.graph import Graph
from gaussjax.networks.layers import named, refuse_function
from gaussjax.networks.mlp import MLP
from gaussjax.networks.nodes import Node
from gaussjax.networks.recurrent.networks import GRU, LSTM, RNN, MinGRU

_NETWORKS: Mapping[str, type[nn.Module]] = {
    network.__name__: network for network in (ActorCritic, CNN, GRU, Graph, LSTM, MLP, MinGRU, RNN)
}
# Fields that linen adds to each module.
_LINEN = ("parent", "name")
# The value of an open field where it is not None.
_OPEN = {"output_activation": "auto"}


def bind(
    network: Any, observation_space: spaces.Space, num_actions: int, fields: Iterable[tuple[str, Any]] = ()
) -> Any:
    """The network with its open fields filled in, in the modules that it holds too.

    A field is open where it is None; `output_activation` is open where it is "auto". Any linen module may have
    such fields. A module whose parts see different spaces has a method `part_spaces(space) -> {field: space}`.
    Objects that are not linen modules are returned unchanged.

    Args:
        network: The network.
        observation_space: Value of open fields of this name.
        num_actions: Likewise.
        fields: Pairs of a further field's name and its value, as a kind of policy wants them.
    """
    if not isinstance(network, nn.Module):
        return network
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


def hashable(network: Any) -> Any:
    """The network with plain values and tuples in place of lists, so that a spec with it can be hashed and compared."""
    if not isinstance(network, nn.Module):
        return network
    changes: dict[str, Any] = {}
    # A user's own module keeps its values: it may compute with them, and is not written.
    ours = type(network) in _NETWORKS.values()
    for field, value in _fields(network).items():
        value = _plain(value) if ours else value
        if type(value) in (list, tuple):
            changes[field] = tuple(map(hashable, value))
        elif isinstance(value, nn.Module):
            changes[field] = hashable(value)
        elif ours:
            changes[field] = value
    return network.clone(**changes)


def to_dict(network: Any) -> dict[str, Any]:
    """A JSON-able description of a network, without its spaces.

    The description of a user's own network is its name alone.

    Raises:
        TypeError: An activation is a function without a name in `ACTIVATIONS`.
    """
    if type(network) not in _NETWORKS.values():
        return {"type": "custom", "name": type(network).__qualname__}
    described = {
        field: _write(value)
        for field, value in _fields(network).items()
        if field != "observation_space" and not (field == "num_actions" and value is None)
    }
    return {"type": type(network).__name__, **described}


def from_spec(description: Mapping[str, Any] | str) -> nn.Module:
    """The network that a plain dict or YAML text describes. Nothing in it is executed.

    Args:
        description: `{"type": "MLP", "sizes": [64, 32], …}` with the fields of that class; the nodes
            of a `Graph` need no type. A text is read as YAML (safely; PyYAML comes with flax).

    Returns:
        A module of `gaussjax.networks`, for a policy's factory.

    Raises:
        ValueError: The type, a field, or a name in a graph is unknown; the error suggests the nearest name.

    Example:
        >>> from_spec({"type": "MLP", "sizes": [8], "activation": "elu"}).sizes
        (8,)
        >>> network = from_spec('''
        ... nodes:
        ...   - {name: body, input: observations, layers: [64, 32], activations: relu}
        ...   - {name: past, input: body, layers: [{gru: 16}]}
        ... output: concatenate([body, past])
        ... std: state
        ... ''')
        >>> network.initial_carry((5,))["past_0"][0].shape
        (5, 16)
    """
    if isinstance(description, str):
        description = _from_yaml(description)
    if isinstance(description, Mapping) and "type" not in description and "nodes" in description:
        description = {"type": "Graph", **description}
    if not isinstance(description, Mapping) or "type" not in description:
        raise ValueError(f"network: expected a dict with the key 'type' or 'nodes', got {description!r}.")
    if description["type"] == "custom":
        raise ValueError(
            f"network: {description.get('name')!r} is not one of gaussjax's own networks. "
            f"Build it in your code and pass it as network=."
        )
    cls = choose(_NETWORKS, description["type"], "network type")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.name not in _LINEN}
    arguments = {}
    for name, value in description.items():
        if name == "autodiff" and "fast_backward" in fields:
            continue  # A field of earlier policy files that changed no number.
        if name != "type":
            choose(fields, name, f"field of {description['type']}")
            arguments[name] = value if name == "nodes" else _read(value)
    lacking = [
        field.name
        for field in fields.values()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in arguments
    ]
    if lacking:
        raise ValueError(f"{description['type']}: expected the fields {lacking}, got {sorted(arguments)}.")
    return cls(**arguments)


def _from_yaml(text: str) -> Any:
    import yaml  # Loaded here, for most programs never read YAML.

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"network: expected YAML of plain data, got a text that is not: {error}") from error


def _fields(network: nn.Module) -> dict[str, Any]:
    return {
        field.name: getattr(network, field.name) for field in dataclasses.fields(network) if field.name not in _LINEN
    }


def _plain(value: Any) -> Any:
    """Dtypes and activations by their names, scalars as Python numbers, in tuples and lists too."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
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
        return from_spec(value)
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    return value

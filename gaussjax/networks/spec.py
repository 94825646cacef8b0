"""Networks as plain data: to a dict, and from it by name, never by executing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gaussjax import spaces
from gaussjax.networks.actor_critic import ActorCritic
from gaussjax.networks.cnn import CNN
from gaussjax.networks.layers import choose
from gaussjax.networks.mlp import MLP
from gaussjax.networks.recurrent import GRU, LSTM, RNN, MinGRU

_NETWORKS: Mapping[str, type[nn.Module]] = {
    network.__name__: network for network in (ActorCritic, CNN, GRU, LSTM, MLP, MinGRU, RNN)
}
# What linen adds to each module.
_LINEN = ("parent", "name")


def bind(network: Any, observation_space: spaces.Space, num_actions: int) -> Any:
    """The network with its open fields `num_actions` and `observation_space` filled in.

    Any linen module may have these fields, the user's own too; where they are None they take
    the policy's values, in the module and in the modules it holds. A module whose parts see other
    spaces says so with a method `part_spaces(space) -> {field: space}`. Other objects pass unchanged.
    """
    if not isinstance(network, nn.Module):
        return network
    changes: dict[str, Any] = {}
    parts = network.part_spaces(observation_space) if hasattr(network, "part_spaces") else {}
    for field, value in _fields(network).items():
        if isinstance(value, nn.Module):
            changes[field] = bind(value, parts.get(field, observation_space), num_actions)
        elif isinstance(value, list):
            changes[field] = tuple(value)
        elif field == "num_actions" and value is None:
            changes[field] = num_actions
        elif field == "observation_space" and value is None:
            changes[field] = observation_space
    return network.clone(**changes)


def to_dict(network: Any) -> dict[str, Any]:
    """A JSON-able description of a network, without what the spaces determine.

    A network that gaussjax does not ship is described by its name alone: its code has to be
    at hand to rebuild it.
    """
    if type(network) not in _NETWORKS.values():
        return {"type": "custom", "name": type(network).__qualname__}
    described = {
        field: _write(value)
        for field, value in _fields(network).items()
        if field != "observation_space" and not (field == "num_actions" and value is None)
    }
    return {"type": type(network).__name__, **described}


def from_spec(description: Mapping[str, Any]) -> nn.Module:
    """The network that a plain dict describes.

    Args:
        description: `{"type": "MLP", "sizes": [64, 32], …}` with the fields of that class.

    Raises:
        ValueError: The type or a field is unknown; the nearest name is suggested.

    Example:
        >>> from_spec({"type": "MLP", "sizes": [8], "activation": "elu"}).sizes
        (8,)
    """
    if not isinstance(description, Mapping) or "type" not in description:
        raise ValueError(f"network: expected a dict with the key 'type', got {description!r}.")
    if description["type"] == "custom":
        raise ValueError(
            f"network: {description.get('name')!r} is not one of gaussjax's own networks. "
            f"Build it in your code and pass it as network=."
        )
    cls = choose(_NETWORKS, description["type"], "network type")
    names = {field.name: field for field in dataclasses.fields(cls) if field.name not in _LINEN}
    arguments = {}
    for field, value in description.items():
        if field != "type":
            choose(names, field, f"field of {description['type']}")
            arguments[field] = _read(value)
    return cls(**arguments)


def _fields(network: nn.Module) -> dict[str, Any]:
    return {
        field.name: getattr(network, field.name) for field in dataclasses.fields(network) if field.name not in _LINEN
    }


def _write(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_write(item) for item in value]
    return value


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_spec(value)
    if isinstance(value, list):
        return tuple(_read(item) for item in value)
    return value

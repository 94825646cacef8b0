"""The networks of `gaussjax.networks` as torch modules, built from the same description.

A torch module has the parameter names of the Flax module, in torch's layout: `layers.dense_0.weight` is the transpose
of `layers/dense_0/kernel`. Each class gets the Flax module as `described`, and uses only its fields and the methods
that need no parameters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from gaussjax import networks, spaces
from gaussjax.networks import actor_critic, graph
from gaussjax.networks.recurrent.cells import guarded
from gaussjax.torch.layers import ACTIVATIONS, Conv, Dense, Head, Layers, Norm, RecurrentLayers, Start, activation


class Network(nn.Module):
    """A trunk and a head: the counterpart of `gaussjax.networks.MLP`, and base class of other networks."""

    def __init__(self, described: Any, width: int | None = None) -> None:
        super().__init__()
        self.described, space = described, _space(described)
        self.is_flat = isinstance(space, spaces.Box) and len(space.shape) == 1
        width = spaces.size(space) if width is None else width
        self.layers = Layers(described.dense_layers(parent=None), width)
        self.head = Head(described.gaussian_head(parent=None), self.layers.width)

    def flat(self, observations: Any) -> Any:
        """Flattens each observation to one vector."""
        if self.is_flat and observations.is_floating_point():
            return observations
        return spaces.flatten(self.described.observation_space, observations)

    def features(self, observations: Any) -> Any:
        """Returns the trunk's output, which is the input of the head and of a shared critic."""
        return self.layers(self.flat(observations))

    def forward(self, observations: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Returns the mean, log_std and a dict of further outputs."""
        return self.head(self.features(observations))


class CNN(Network):
    """The counterpart of `gaussjax.networks.CNN`. It flattens features in the order channel, height, width."""

    def __init__(self, described: networks.CNN) -> None:
        described.check()
        images, _ = described.images(spaces.zeros(_space(described), (1,), full))
        height, width, channels = images.shape[1:]
        convolutions, start = nn.ModuleList(), Start(described.initializer, described.scale)
        for wide, kernel, stride in zip(described.channels, described.kernels, described.strides, strict=True):
            convolutions.append(Conv(channels, wide, kernel, stride, described.padding, described.dtype, start))
            lost = kernel - 1 if described.padding == "VALID" else 0
            height, width, channels = -(-(height - lost) // stride), -(-(width - lost) // stride), wide
        super().__init__(described, height * width * channels)
        self.convolutions, self.activate = convolutions, activation(described.convolution_activation)
        self.flattened = height, width, channels

    def features(self, observations: torch.Tensor) -> torch.Tensor:
        """Returns the trunk's output, which is the input of the head and of a shared critic."""
        images, batch_shape = self.described.images(observations)
        images = images.permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            images = self.activate(convolution(images))
        return self.layers(images.reshape(*batch_shape, math.prod(self.flattened)))


class Recurrent(Network):
    """The counterpart of `RNN`, `GRU`, `LSTM` and `MinGRU` in `gaussjax.networks`."""

    def __init__(self, described: Any) -> None:
        super().__init__(described, described.hidden_size)
        self.memory = RecurrentLayers(described.recurrent_layers(parent=None), spaces.size(_space(described)))

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """Returns zeros in the structure of the Flax network's carry."""
        return self.described.initial_carry(tuple(batch_shape), torch.zeros)

    def features(self, observations: Any, carry: Any, resets: Any = None) -> tuple[torch.Tensor, Any]:
        """Returns the trunk's output and the new carry."""
        x, carry = self.memory(self.flat(observations), carry, resets)
        return guarded(self.layers, x), carry

    def forward(self, observations: Any, carry: Any, resets: Any = None) -> tuple[Any, Any, dict[str, Any]]:
        """Returns the mean, log_std and a dict of outputs with the carry after the last step."""
        features, carry = self.features(observations, carry, resets)
        mean, log_std, outputs = guarded(self.head, features)
        return mean, log_std, {**outputs, "carry": carry}


class ActorCritic(nn.Module):
    """An actor and a critic, the counterpart of `gaussjax.networks.ActorCritic`."""

    def __init__(self, described: networks.ActorCritic) -> None:
        super().__init__()
        self.described = described
        described.check()
        self.wiring = actor_critic.wiring(described, self.initial_carry())
        for name in ("shared", "actor_keys", "critic_keys"):
            setattr(self, name, getattr(described, name))
        self.actor = make(described.actor)
        self.critic = None if described.critic is None else make(described.critic, head=False)
        if described.shared or self.critic is not None:
            width = _width(self.actor if described.shared else self.critic)
        else:
            width = spaces.size(actor_critic.part_of(_space(described), described.critic_keys))
        self.critic_layers = Layers(described.dense_layers(parent=None), width)
        self.critic_value = Dense(self.critic_layers.width, 1, kernel=Start(described.initializer, 1.0))

    initial_carry = Recurrent.initial_carry

    def forward(self, observations: Any, carry: Any = (), resets: Any = None) -> tuple[Any, Any, dict[str, Any]]:
        """Returns the actor's mean, log_std and outputs, with the critic's value `(…)` among the outputs."""
        return actor_critic.run(self, self.wiring, observations, carry, resets)


class Graph(nn.Module):
    """A network of named nodes, the counterpart of `gaussjax.networks.Graph`."""

    def __init__(self, described: networks.Graph) -> None:
        super().__init__()
        self.described = described
        for name in ("nodes", "output", "value", "observation_space"):
            setattr(self, name, getattr(described, name))
        self.activations = ACTIVATIONS
        # The width of a layer's input is known only in a forward pass, so one with zeros makes the layers.
        self.__dict__["parts"] = lazy = _LazyLayers(described)
        zeros = spaces.zeros(_space(described), (1,), full)
        with torch.no_grad():
            features, valued, _ = graph.run(self, zeros, self.initial_carry((1,)), None)
        del self.__dict__["parts"]
        self.parts = nn.ModuleDict(lazy.parts)
        self.head = Head(described.gaussian_head(parent=None), features.shape[-1])
        start = Start(described.initializer, 1.0)
        self.value_layer = None if valued is None else Dense(valued.shape[-1], 1, kernel=start)

    initial_carry = Recurrent.initial_carry

    def features(self, observations: Any, carry: Any = (), resets: Any = None) -> Any:
        """Returns the head's input; a recurrent graph returns the new carry too."""
        features, _, carries = graph.run(self, observations, carry, resets)
        return (features, carries) if carries else features

    def forward(self, observations: Any, carry: Any = (), resets: Any = None) -> tuple[Any, Any, dict[str, Any]]:
        """Returns the mean, log_std and a dict of outputs, with `carry` and `value` if the graph has them."""
        return graph.forward(self, observations, carry, resets)


class _ChannelsLast(Conv):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class _LazyLayers:
    """The layers of a graph by name. A layer is made at its first call, which gives the width of its input."""

    def __init__(self, described: networks.Graph) -> None:
        self.described, self.parts, self.layers = described, {}, described.named_layers()

    def __getitem__(self, name: str) -> Any:
        def call(x: torch.Tensor, *state: Any) -> Any:
            layer, width, dtype = self.layers[name], x.shape[-1], self.described.dtype
            options, start = dict(layer.options), Start(self.described.initializer, self.described.scale)
            if layer.kind == "linear":
                part: Any = Dense(width, options["features"], dtype, start)
            elif layer.kind == "conv":
                part = _ChannelsLast(width, **options, dtype=dtype, start=start)
            elif layer.kind == "norm":
                part = Norm(width, dtype)
            else:
                part = RecurrentLayers(self.described.recurrent_layers(layer, parent=None), width)
            self.parts[name] = part
            return part(x, *state)

        return call


_MODULES = {
    networks.MLP: Network,
    networks.CNN: CNN,
    networks.RNN: Recurrent,
    networks.GRU: Recurrent,
    networks.LSTM: Recurrent,
    networks.MinGRU: Recurrent,
    networks.ActorCritic: ActorCritic,
    networks.Graph: Graph,
}


def make(described: Any, head: bool = True) -> nn.Module:
    """Builds the torch module of a network from `gaussjax.networks` whose spaces and number of actions are set.

    Raises:
        TypeError: The network is of another type, or has an activation that is not in `ACTIVATIONS`.
    """
    if type(described) not in _MODULES:
        names = sorted(cls.__name__ for cls in _MODULES)
        raise TypeError(
            f"network: expected a torch.nn.Module or one of gaussjax.networks ({', '.join(names)}), got "
            f"{type(described).__name__}. Write a network of your own as a torch.nn.Module too."
        )
    module = _MODULES[type(described)](described)
    if not head:
        # The head of a critic's network is deleted: the Flax network does not use it, so the parameters have none.
        module.width = _width(module)
        del module.head
    return module


def make_on_meta(described: Any) -> nn.Module:
    """Calls `make` on the meta device, where tensors have no data; each call of the module gets the parameters."""
    with torch.device("meta"):
        return make(described)


def full(shape: tuple[int, ...], value: float, dtype: Any) -> torch.Tensor:
    """Makes a tensor filled with one value; `dtype` is a NumPy dtype or its name."""
    return torch.full(shape, value, dtype=getattr(torch, np.dtype(dtype).name))


def _space(described: Any) -> spaces.Space:
    if described.observation_space is None:
        raise ValueError("observation_space: expected a space, got None. A policy's factory fills it in.")
    return described.observation_space


def _width(module: Any) -> int:
    """Returns the length of a network's feature vector."""
    return module.head.mean.in_features if hasattr(module, "head") else module.width

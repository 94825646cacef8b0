"""Recurrent policy networks: RNN, GRU, LSTM and the parallel MinGRU."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.networks.heads import NetworkOutput
from gaussjax.networks.layers import Activation, promoting
from gaussjax.networks.mlp import Network
from gaussjax.networks.recurrent.cells import guarded
from gaussjax.networks.recurrent.layers import RecurrentLayers


class Recurrent(Network):
    """The base class of recurrent policy networks: recurrent layers, dense layers, then the head.

    Observations with the carry's batch shape are one step; one more leading axis makes them a sequence `(T, N, …)`.
    Where `resets[t]` is True, observation t starts an episode, and the carry is zeroed before step t. Single steps
    and a sequence give the same results. The kernels of the hidden state are initially orthogonal matrices.

    An observation or a carry that is not finite makes all results NaN until the next reset. It affects neither the
    results after the reset nor their gradients, in JAX and in torch. The log-density of a NaN mean has a NaN gradient
    even if the loss leaves it out, so leave out such steps before they are scored.

    Attributes:
        hidden_size: Width of the recurrent layers.
        num_layers: Number of recurrent layers.
        sizes: Width of each dense layer.
        activation: Activation of the dense layers, as in `MLP`.
        sequence_length: Number of steps of a training sequence, for `to_sequences`.
        fast_backward: Whether LSTM layers use a faster backward pass that does not support forward mode (`jax.jvp`).
        memory_steps: None, or the longest time in steps for which an untrained unit of a gated cell remembers. Each
            unit draws its time between 1 and this number (Tallec and Ollivier 2018, arXiv:1804.11188).
    """

    hidden_size: int = 64
    num_layers: int = 1
    sizes: tuple[int, ...] = (64, 32)
    activation: Activation | tuple[Activation, ...] = "relu"
    sequence_length: int = 10
    fast_backward: bool = False
    memory_steps: int | None = None

    cell: ClassVar[Any]

    def setup(self) -> None:
        # The parameter names in policy files begin with "memory", so this attribute keeps its name.
        self.memory = self.recurrent_layers()
        super().setup()

    @nn.nowrap
    def recurrent_layers(self, **linen: Any) -> RecurrentLayers:
        """Returns the network's recurrent layers as a module."""
        options = self.initializer, self.dtype, self.fast_backward, self.memory_steps, self.num_layers
        return RecurrentLayers(self.cell, self.hidden_size, *options, **linen)

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> tuple[Any, ...]:
        """Returns for each layer zeros `(*batch_shape, hidden_size)`, or for an LSTM an `LSTMState` of two of them."""
        return self.recurrent_layers(parent=None).initial_carry(tuple(batch_shape), zeros)

    @nn.nowrap
    def specification(self, num_envs: int = 1) -> dict[str, Any]:
        """Returns the carry's sizes for skrl: `{"rnn": {"sequence_length", "sizes": [(layers, num_envs, hidden)]}}`."""
        states = jax.tree.leaves(jax.eval_shape(self.initial_carry)[0])
        sizes = [(self.num_layers, num_envs, state.shape[-1]) for state in states]
        return {"rnn": {"sequence_length": self.sequence_length, "sizes": sizes}}

    def features(self, observations: spaces.Observations, carry: Any, resets: Any = None) -> tuple[Array, Any]:
        """Returns the trunk's output `(…, width)` and the new carry."""
        space = self.observation_space
        x = observations if space is None else spaces.flatten(space, observations)
        x, carry = self.memory(x, carry, resets)
        return guarded(self.layers, x), carry

    def __call__(self, observations: spaces.Observations, carry: Any = None, resets: Any = None) -> NetworkOutput:
        """Returns the mean, log_std and a dict of outputs with the carry after the last step."""
        with promoting():
            features, carry = self.features(observations, carry, resets)
            mean, log_std, outputs = guarded(self.head, features)
        return mean, log_std, {**outputs, "carry": carry}


class RNN(Recurrent):
    """A policy network with Elman's recurrent layers, and with the attributes of `Recurrent`.

    Attributes:
        nonlinearity: Activation of the recurrent layers, "tanh" or "relu".

    Example:
        >>> RNN(hidden_size=8, num_layers=2).initial_carry((5,))[1].shape
        (5, 8)

    Source:
        Elman 1990, finding structure in time.
    """

    nonlinearity: str = "tanh"

    @property
    def cell(self) -> str:
        """The name of the recurrent cell."""
        return choose({"tanh": "rnn", "relu": "rnn_relu"}, self.nonlinearity, "nonlinearity")


class GRU(Recurrent):
    """A policy network with gated recurrent units, and with the attributes of `Recurrent`.

    The reset gate acts after the product with the hidden state, as in `torch.nn.GRU`.

    Example:
        >>> GRU(hidden_size=8).initial_carry((5,))[0].shape
        (5, 8)

    Source:
        Cho et al. 2014 (arXiv:1406.1078).
    """

    cell = "gru"


class LSTM(Recurrent):
    """A policy network with long short-term memory, and with the attributes of `Recurrent`.

    Example:
        >>> import gaussjax, jax.numpy as jnp
        >>> policy = gaussjax.gaussian(LSTM(hidden_size=8), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> carry = policy.initial_carry((5,))
        >>> step = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)), carry=carry)
        >>> sequence = policy.act(params, jax.random.key(1), jnp.zeros((7, 5, 3)), carry=carry)
        >>> step.actions.shape, sequence.actions.shape, sequence.outputs["carry"][0].cell.shape
        ((5, 2), (7, 5, 2), (5, 8))

    Source:
        Hochreiter and Schmidhuber 1997; the forget gate of Gers et al. 2000.
    """

    cell = "lstm"


class MinGRU(Recurrent):
    """A policy network with minimal gated recurrent units, and with the attributes of `Recurrent`.

    The gates depend only on the input, so the states of a sequence can be computed in parallel over time.
    A single layer only averages its inputs; two or more layers can react to earlier inputs.

    Example:
        >>> len(MinGRU(hidden_size=8, num_layers=2).initial_carry((5,)))
        2

    Source:
        Feng et al. 2024, were RNNs all we needed? (arXiv:2410.01201), section 3.1.
    """

    cell = "mingru"

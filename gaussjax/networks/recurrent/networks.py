"""Recurrent policy networks: RNN, GRU, LSTM and the parallel MinGRU."""

from __future__ import annotations

from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.choices import choose
from gaussjax.networks.heads import NetworkOutput
from gaussjax.networks.layers import Activation
from gaussjax.networks.mlp import Network
from gaussjax.networks.recurrent.layers import RecurrentLayers


class Recurrent(Network):
    """Recurrent layers, then dense layers, then the head. The kernels of the hidden state start orthogonal.

    Observations with the carry's batch shape are one step; one more leading axis makes a sequence
    `(T, N, …)`. If `resets[t]` is true, observation t starts an episode and the carry is zeroed
    before step t. Stepping and unrolling compute the same numbers.

    Attributes:
        hidden_size: Width of the recurrent layers.
        num_layers: Number of recurrent layers.
        sizes: Width of each dense layer.
        activation: Activation of the dense layers; see `MLP`.
        sequence_length: Steps of a training sequence, for `to_sequences`.
        fast_backward: Whether wide LSTM layers use a faster backward pass, without forward mode (`jax.jvp`).
        memory_steps: None, or the longest gap in steps that a gated cell should bridge before training: its units
            then start with memories of between 1 and that many steps (Tallec and Ollivier 2018, arXiv:1804.11188).
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
        # The parameter names in policy files begin with this attribute's name.
        self.memory = self.recurrent_layers()
        super().setup()

    @nn.nowrap
    def recurrent_layers(self, **linen: Any) -> RecurrentLayers:
        """The recurrent layers with these options."""
        options = self.initializer, self.dtype, self.fast_backward, self.memory_steps, self.num_layers
        return RecurrentLayers(self.cell, self.hidden_size, *options, **linen)

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> tuple[Any, ...]:
        """For each layer zeros `(*batch_shape, hidden_size)`, or an `LSTMState` of two such arrays."""
        return self.recurrent_layers(parent=None).initial_carry(tuple(batch_shape), zeros)

    @nn.nowrap
    def specification(self, num_envs: int = 1) -> dict[str, Any]:
        """The carry's sizes in skrl's form: `{"rnn": {"sequence_length", "sizes": [(layers, num_envs, hidden)]}}`."""
        states = jax.tree.leaves(jax.eval_shape(self.initial_carry)[0])
        sizes = [(self.num_layers, num_envs, state.shape[-1]) for state in states]
        return {"rnn": {"sequence_length": self.sequence_length, "sizes": sizes}}

    def features(self, observations: spaces.Observations, carry: Any, resets: Any = None) -> tuple[Array, Any]:
        """The trunk's output `(…, width)` and the new carry."""
        x, carry = self.memory(self.flat(observations), carry, resets)
        return self.layers(x), carry

    def __call__(self, observations: spaces.Observations, carry: Any = None, resets: Any = None) -> NetworkOutput:
        """The mean, log_std, and outputs with the carry after the last step."""
        features, carry = self.features(observations, carry, resets)
        mean, log_std, outputs = self.head(features)
        return mean, log_std, {**outputs, "carry": carry}


class RNN(Recurrent):
    """A network with Elman's recurrent layers; see `Recurrent` for the attributes.

    Attributes:
        nonlinearity: "tanh" or "relu" in the recurrent layers.

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
    """A network with gated recurrent units; see `Recurrent` for the attributes.

    The reset gate acts after the product with the hidden state, as in `torch.nn.GRU`.

    Example:
        >>> GRU(hidden_size=8).initial_carry((5,))[0].shape
        (5, 8)

    Source:
        Cho et al. 2014 (arXiv:1406.1078).
    """

    cell = "gru"


class LSTM(Recurrent):
    """A network with long short-term memory; see `Recurrent` for the attributes.

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
    """A network whose state is computed in parallel over time; see `Recurrent` for the attributes.

    The gates depend on the input alone, so a sequence needs a parallel scan instead of T dependent steps.
    One layer only averages its inputs; two or more can react to earlier inputs.

    Example:
        >>> len(MinGRU(hidden_size=8, num_layers=2).initial_carry((5,)))
        2

    Source:
        Feng et al. 2024, were RNNs all we needed? (arXiv:2410.01201), section 3.1.
    """

    cell = "mingru"

"""Stacks of recurrent layers as a Flax module: one step or a sequence, as the carry decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gaussjax.core.choices import choose
from gaussjax.networks.layers import Dense, dense, kernel_initializer
from gaussjax.networks.recurrent.cells import CELLS, Weights, output, step
from gaussjax.networks.recurrent.linear_recurrence import differentiable_recurrence, linear_recurrence
from gaussjax.networks.recurrent.unroll import unroll

if TYPE_CHECKING:
    from jaxtyping import Array, Float

CELL_NAMES: Mapping[str, str] = {name: name for name in (*CELLS, "mingru")}


class Memory(nn.Module):
    """Recurrent layers on top of each other.

    Inputs with the carry's batch shape are one step, with one more leading axis a sequence, time
    first. States and outputs are computed in float32 at the least, also where `dtype` asks for matrix
    products in bfloat16; the new carry has the type of the old one.

    Attributes:
        cell: "rnn", "rnn_relu", "gru", "lstm" or "mingru".
        hidden_size: Width of each layer.
        num_layers: How many there are; each sees the output of the one before.
        initializer: Name of the input kernels' initialiser. The hidden kernels start orthogonal.
        dtype: Type of the matrix products; None is that of the states.
        autodiff: Differentiate step by step. Slower, and what forward mode (`jax.jvp`) needs.
        memory_steps: The longest gap to be bridged, or None. The units of a gated cell then start
            with memories of between 1 and that many steps; with None all of them start with about 2.

    Source:
        Tallec and Ollivier 2018, can recurrent neural networks warp time? (arXiv:1804.11188), for `memory_steps`.
    """

    cell: str
    hidden_size: int
    num_layers: int = 1
    initializer: str = "lecun_normal"
    dtype: str | None = None
    autodiff: bool = False
    memory_steps: int | None = None

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> tuple[Any, ...]:
        """Zeros: for each layer an array `(*batch_shape, hidden_size)`, or an `LSTMState` of two."""
        choose(CELL_NAMES, self.cell, "cell")
        if self.num_layers < 1:
            raise ValueError(f"num_layers: expected at least 1, got {self.num_layers}.")
        if self.memory_steps is not None and (self.cell not in _KEEP or self.memory_steps < 2):
            raise ValueError(
                f"memory_steps: expected None, or at least 2 for a cell with gates ({', '.join(_KEEP)}), got "
                f"{self.memory_steps} for {self.cell!r}."
            )
        shape = (*batch_shape, self.hidden_size)
        zeros = jnp.zeros(shape, jnp.float32) if zeros is None else zeros(shape)
        state = CELLS[self.cell].initial(zeros) if self.cell in CELLS else zeros
        return (state,) * self.num_layers

    @nn.compact
    def __call__(
        self, x: Float[Array, "... features"], carry: Any, resets: Any = None
    ) -> tuple[Float[Array, "... hidden"], tuple[Any, ...]]:
        """The last layer's output at each step, and the carry after the last."""
        if carry is None:
            raise ValueError(
                "carry: expected the state of the memory, got None. Start with initial_carry(batch_shape)."
            )
        layer = MinGRULayer if choose(CELL_NAMES, self.cell, "cell") == "mingru" else Layer
        states = []
        for i, state in enumerate(carry):
            x, state = layer(
                self.cell,
                self.hidden_size,
                self.initializer,
                self.dtype,
                self.autodiff,
                self.memory_steps,
                name=f"layer_{i}",
            )(x, state, resets)
            states.append(state)
        return x, tuple(states)


class Layer(nn.Module):
    """One recurrent layer; the attributes are those of `Memory`."""

    cell: str
    hidden_size: int
    initializer: str
    dtype: str | None
    autodiff: bool
    memory_steps: int | None

    @nn.compact
    def __call__(self, x: Array, state: Any, resets: Any) -> tuple[Array, Any]:
        """Outputs and the last state."""
        cell = CELLS[self.cell]
        width = cell.gates * self.hidden_size
        weights = Weights(
            self.param("kernel_input", kernel_initializer(self.initializer), (x.shape[-1], width), jnp.float32),
            self.param("kernel_hidden", _orthogonal_gates, (self.hidden_size, width)),
            self.param("bias_input", gate_biases(self.cell, self.memory_steps), (width,), jnp.float32),
            self.param("bias_hidden", nn.initializers.zeros_init(), (width,), jnp.float32),
        )
        before = state
        into = jnp.result_type(x, weights.kernel_input, output(before), jnp.float32)
        state = jax.tree.map(lambda part: part.astype(into), before)
        dtype = jnp.dtype(into if self.dtype is None else self.dtype)
        if x.ndim == output(state).ndim:
            state = step(cell, weights, state, x, resets, dtype)
            x = output(state)
        else:
            x, state = unroll(cell, weights, state, x, resets, dtype, self.autodiff)
        return x, jax.tree.map(lambda new, old: new.astype(old.dtype), state, before)


class MinGRULayer(nn.Module):
    """A gated average of the inputs whose gate sees the input alone; attributes as of `Memory`.

    `h[t] = (1 - z[t]) * h[t-1] + z[t] * candidate[t]` with `z = sigmoid(update(x))`.

    Source:
        Feng et al. 2024, were RNNs all we needed? (arXiv:2410.01201), section 3.1.
    """

    cell: str
    hidden_size: int
    initializer: str
    dtype: str | None
    autodiff: bool
    memory_steps: int | None

    @nn.compact
    def __call__(self, x: Array, state: Array, resets: Any) -> tuple[Array, Array]:
        """Outputs and the last state."""
        kernel, biases = kernel_initializer(self.initializer), gate_biases(self.cell, self.memory_steps)
        update = Dense(self.hidden_size, kernel, biases, self.dtype, name="update")
        gate, candidate = update(x), dense(self.hidden_size, "candidate", self.initializer, 1.0, self.dtype)(x)
        gate, candidate = (a.astype(jnp.result_type(a, state, jnp.float32)) for a in (gate, candidate))
        before, state = state, state.astype(gate.dtype)
        decay, share = jax.nn.sigmoid(-gate), jax.nn.sigmoid(gate)
        if resets is not None:
            decay = jnp.where(resets[..., None], jnp.zeros((), decay.dtype), decay)
        if x.ndim == state.ndim:
            state = decay * state + share * candidate
            return state, state.astype(before.dtype)
        recurrence = differentiable_recurrence if self.autodiff else linear_recurrence
        states = recurrence(decay, share * candidate, state)
        return states, states[-1].astype(before.dtype) if x.shape[0] else before


def _orthogonal_gates(key: Array, shape: tuple[int, int]) -> Array:
    size = shape[0]
    keys = jax.random.split(key, shape[1] // size)
    return jnp.concatenate([nn.initializers.orthogonal()(k, (size, size), jnp.float32) for k in keys], -1)


# Which gates keep the old state and, where there are any, which let the new in: by place.
_KEEP: Mapping[str, tuple[int, int | None]] = {"gru": (1, None), "lstm": (1, 0), "mingru": (0, None)}


def gate_biases(cell: str, memory_steps: int | None) -> Any:
    """An initialiser of the biases: zeros, or memories of 1 to `memory_steps` steps."""
    if memory_steps is None:
        return nn.initializers.zeros_init()

    def start(key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
        gates = 1 if cell == "mingru" else CELLS[cell].gates
        keep, admit = _KEEP[cell]
        horizon = jnp.log(jax.random.uniform(key, (shape[0] // gates,), dtype, 1.0, max(memory_steps - 1.0, 1.01)))
        biases = jnp.zeros((gates, shape[0] // gates), dtype)
        # MinGRU's only gate admits the new state; the others keep the old one.
        biases = biases.at[keep].set(-horizon if cell == "mingru" else horizon)
        biases = biases if admit is None else biases.at[admit].set(-horizon)
        return biases.reshape(shape)

    return start

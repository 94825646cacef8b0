"""Recurrent layers as Flax modules, for one step or a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import refuse_huge, refuse_traced
from gaussjax.networks.layers import dense, kernel_initializer
from gaussjax.networks.recurrent import cells
from gaussjax.networks.recurrent.cells import CELLS, GATED, LSTMState, Weights, linear_recurrence, output
from gaussjax.networks.recurrent.fast_backward import fast_unroll, supports

_MOST_LAYERS = 1000
CELL_NAMES: Mapping[str, str] = {name: name for name in (*CELLS, "mingru")}


class _Options(nn.Module):
    """The options of one recurrent layer; `cell` is a key of `CELL_NAMES`."""

    cell: str
    hidden_size: int
    initializer: str = "lecun_normal"
    dtype: str | None = None
    fast_backward: bool = False
    memory_steps: int | None = None

    @nn.nowrap
    def start_biases(self, key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Returns initial biases: zeros, or biases with which the units remember for 1 to `memory_steps` steps."""
        if self.memory_steps is None:
            return jnp.zeros(shape, dtype)
        steps = jax.random.uniform(key, (self.hidden_size,), dtype, 1.0, cells.longest(self.memory_steps))
        return cells.gate_biases(self.cell, jnp.log(steps))


class RecurrentLayers(_Options):
    """A stack of recurrent layers, with the fields of `Recurrent`.

    States and outputs are computed in float32 or wider; `dtype` is the dtype of the matrix products. The new carry has
    the dtype of the old carry.
    """

    num_layers: int = 1

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...] = (), zeros: Any = None) -> tuple[Any, ...]:
        """Returns for each layer zeros `(*batch_shape, hidden_size)`, or for an LSTM an `LSTMState` of two of them."""
        choose(CELL_NAMES, self.cell, "cell")
        for name in ("num_layers", "hidden_size", "memory_steps"):
            refuse_traced(getattr(self, name), name)
        for name in ("num_layers", "hidden_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}.")
        if self.num_layers > _MOST_LAYERS:
            raise ValueError(f"num_layers: expected at most {_MOST_LAYERS}, got {self.num_layers}.")
        if self.memory_steps is not None and (self.cell not in GATED or self.memory_steps < 2):
            raise ValueError(
                f"memory_steps: expected None, or at least 2 for a cell with gates ({', '.join(GATED)}), got "
                f"{self.memory_steps} for {self.cell!r}."
            )
        shape = (*batch_shape, self.hidden_size)
        refuse_huge((*shape, self.num_layers), "carry")
        start = jnp.zeros(shape, jnp.float32) if zeros is None else zeros(shape)
        return (LSTMState(start, start) if self.cell == "lstm" else start,) * self.num_layers

    @nn.compact
    def __call__(self, x: Array, carry: Any, resets: Any = None) -> tuple[Array, tuple[Any, ...]]:
        """Returns the last layer's output at each step, `(…, hidden)`, and the carry after the last step."""
        cells.refuse_none(carry)
        layer = MinGRULayer if choose(CELL_NAMES, self.cell, "cell") == "mingru" else Layer
        options = (self.cell, self.hidden_size, self.initializer, self.dtype, self.fast_backward, self.memory_steps)

        def run(x: Array, carry: Any) -> tuple[Array, tuple[Any, ...]]:
            states = []
            for i, state in enumerate(carry):
                x, state = layer(*options, name=f"layer_{i}")(x, state, resets)
                states.append(state)
            return x, tuple(states)

        return cells.guarded_sequence(run, x, carry, resets)


class Layer(_Options):
    """One recurrent layer, with the formulas of a cell in `CELLS`."""

    @nn.compact
    def __call__(self, x: Array, state: Any, resets: Any) -> tuple[Array, Any]:
        """Returns the layer's output at each step, and its state after the last step."""
        cell = CELLS[self.cell]
        width = cell.gates * self.hidden_size
        weights = Weights(
            self.param("kernel_input", kernel_initializer(self.initializer), (x.shape[-1], width), jnp.float32),
            self.param("kernel_hidden", _orthogonal_gates, (self.hidden_size, width)),
            self.param("bias_input", self.start_biases, (width,), jnp.float32),
            self.param("bias_hidden", nn.initializers.zeros_init(), (width,), jnp.float32),
        )
        before = state
        into = xp.at_least_float32(x, weights.kernel_input, output(before))[0].dtype
        state = jax.tree.map(lambda part: part.astype(into), before)
        state = cells.typed(state, weights, x, resets)
        dtype = jnp.dtype(into if self.dtype is None else self.dtype)
        if x.ndim == output(state).ndim:
            state = cells.step(cell, weights, state, x, resets, dtype)
            x = output(state)
        else:
            resets = jnp.zeros(x.shape[:-1], bool) if resets is None else resets
            fast = self.fast_backward and self.cell == "lstm" and supports(weights, x)
            x, state = (fast_unroll if fast else cells.unroll)(cell, dtype, weights, state, x, resets)
        return x, jax.tree.map(lambda new, old: new.astype(old.dtype), state, before)


class MinGRULayer(_Options):
    """The layer of `MinGRU`: `h[t] = (1 - z[t]) * h[t-1] + z[t] * candidate(x[t])` with `z = sigmoid(update(x))`."""

    @nn.compact
    def __call__(self, x: Array, state: Array, resets: Any) -> tuple[Array, Array]:
        """Returns the layer's output at each step, and its state after the last step."""
        options = self.initializer, 1.0, self.dtype
        gate = dense(self.hidden_size, "update", *options, bias_init=self.start_biases)(x)
        candidate = dense(self.hidden_size, "candidate", *options)(x)
        gate, candidate = (xp.at_least_float32(a, state)[0] for a in (gate, candidate))
        before, state = state, state.astype(gate.dtype)
        decay, share = jax.nn.sigmoid(-gate), jax.nn.sigmoid(gate)
        if x.ndim == state.ndim:
            state = decay * cells.clear(state, resets) + share * candidate
            return state, state.astype(before.dtype)
        if x.shape[0] == 0:
            return share, before
        resets = jnp.zeros(x.shape[:-1], bool) if resets is None else resets
        states = linear_recurrence(decay, share * candidate, state, resets)
        return states, states[-1].astype(before.dtype)


def _orthogonal_gates(key: Array, shape: tuple[int, int]) -> Array:
    size = shape[0]
    keys = jax.random.split(key, shape[1] // size)
    return jnp.concatenate([nn.initializers.orthogonal()(k, (size, size), jnp.float32) for k in keys], -1)

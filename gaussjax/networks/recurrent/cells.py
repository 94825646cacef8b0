"""Recurrent cells as formulas of one step, and the scan over a sequence.

Weights convert exactly to `torch.nn`: `kernel_input` is torch's `weight_ih` transposed, `kernel_hidden` its
`weight_hh`, and both libraries have two biases. The last axis holds the gates in torch's order: input, forget,
candidate, output for the LSTM; reset, update, candidate for the GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Bool, Float

from gaussjax.core.arrays import xp


class LSTMState(NamedTuple):
    """The carry of an LSTM layer.

    Attributes:
        hidden: Output of the layer, `(…, hidden_size)`.
        cell: Inner state of the layer, `(…, hidden_size)`.
    """

    hidden: Float[Array, "*batch hidden"]
    cell: Float[Array, "*batch hidden"]


class Weights(NamedTuple):
    """The parameters of one recurrent layer."""

    kernel_input: Float[Array, "features gates"]
    kernel_hidden: Float[Array, "hidden gates"]
    bias_input: Float[Array, " gates"]
    bias_hidden: Float[Array, " gates"]


class Cell(NamedTuple):
    """One kind of recurrent layer.

    Attributes:
        gates: Number of blocks of `hidden` columns in the kernels.
        summed: Whether `products` is the sum of the products with input and hidden state, not their pair.
        update: `(products, state) -> state`, elementwise and without parameters.
    """

    gates: int
    summed: bool
    update: Callable[[Any, Any], Any]


def _gru(products: tuple[Array, Array], hidden: Array) -> Array:
    (reset_in, update_in, new_in), (reset_hidden, update_hidden, new_hidden) = (xp.split(p, 3, -1) for p in products)
    reset = xp.sigmoid(reset_in + reset_hidden)
    update = xp.sigmoid(update_in + update_hidden)
    new = xp.tanh(new_in + reset * new_hidden)
    return new + update * (hidden - new)


def _lstm(products: Array, state: LSTMState) -> LSTMState:
    admit, keep, new, show = xp.split(products, 4, -1)
    cell = xp.sigmoid(keep) * state.cell + xp.sigmoid(admit) * xp.tanh(new)
    return LSTMState(xp.sigmoid(show) * xp.tanh(cell), cell)


CELLS: Mapping[str, Cell] = {
    "rnn": Cell(1, True, lambda products, _: xp.tanh(products)),
    "rnn_relu": Cell(1, True, lambda products, _: xp.relu(products)),
    "gru": Cell(3, False, _gru),
    "lstm": Cell(4, True, _lstm),
}


def output(state: Any) -> Array:
    """The part of a layer's state that is the next layer's input."""
    return jax.tree.leaves(state)[0]


def clear(state: Any, resets: Bool[Array, "*batch"] | None) -> Any:
    """The state with zeros where an episode starts."""
    if resets is None:
        return state
    return jax.tree.map(lambda part: xp.where(resets[..., None], xp.zeros_like(part), part), state)


def product(left: Array, right: Array, dtype: Any, into: Any) -> Array:
    """A matrix product computed in `dtype` and accumulated in `into`."""
    return xp.matmul(xp.astype(left, dtype), xp.astype(right, dtype), preferred_element_type=into)


def products(cell: Cell, weights: Weights, hidden: Array, x: Array, dtype: Any) -> Any:
    """The products with the input and the hidden state; for a `summed` cell one product of concatenated operands."""
    into = hidden.dtype
    shape = (*hidden.shape[:-1], weights.bias_input.shape[-1])
    biases = [xp.broadcast_to(xp.astype(bias, into), shape) for bias in (weights.bias_input, weights.bias_hidden)]
    if cell.summed:
        joined = xp.concatenate([xp.astype(x, into), hidden], -1)
        kernel = xp.concatenate([weights.kernel_input, weights.kernel_hidden])
        return product(joined, kernel, dtype, into) + (biases[0] + biases[1])
    return (
        product(x, weights.kernel_input, dtype, into) + biases[0],
        product(hidden, weights.kernel_hidden, dtype, into) + biases[1],
    )


def step(cell: Cell, weights: Weights, state: Any, x: Array, resets: Array | None, dtype: Any) -> Any:
    """The state after one observation; `resets` zeroes the state before it."""
    state = clear(state, resets)
    return cell.update(products(cell, weights, output(state), x, dtype), state)


def unroll(cell: Cell, dtype: Any, weights: Weights, state: Any, x: Array, resets: Array) -> tuple[Array, Any]:
    """The outputs `(T, …, hidden)` and the last state; `x` is `(T, …, features)` and `resets` is `(T, …)`."""

    def body(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
        state = step(cell, weights, state, *inputs, dtype)
        return state, output(state)

    state, outputs = jax.lax.scan(body, state, (x, resets))
    return outputs, state


# The cells whose gates decide how long a unit remembers.
GATED = ("gru", "lstm", "mingru")


def gate_biases(cell: str, log_steps: Any) -> Any:
    """Biases `(gates,)` with which the units of a gated cell remember for `exp(log_steps)` steps."""
    zeros = xp.zeros_like(log_steps)
    # Negative biases close the gates that admit the new state; positive ones open the gates that keep the old state.
    gru, lstm = (zeros, log_steps, zeros), (-log_steps, log_steps, zeros, zeros)
    return xp.concatenate({"gru": gru, "lstm": lstm, "mingru": (-log_steps,)}[cell], -1)


def longest(memory_steps: int) -> float:
    """The upper limit of the uniform distribution from which each unit's number of remembered steps is drawn."""
    return max(memory_steps - 1.0, 1.01)


def refuse_none(carry: Any) -> None:
    """Raise for a recurrent network without a carry."""
    if carry is None:
        raise ValueError(
            "carry: expected the state of this recurrent network, got None. Start with initial_carry(batch_shape)."
        )

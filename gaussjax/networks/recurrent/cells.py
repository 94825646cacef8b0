"""The recurrent cells as formulas of one step, and the scan over a sequence.

The parameters are those of `torch.nn`, so weights convert exactly: `kernel_input` is torch's `weight_ih`
transposed, `kernel_hidden` its `weight_hh`, and both biases are kept. The gates are side by side on the last
axis in torch's order: input, forget, candidate, output for the LSTM; reset, update, candidate for the GRU,
whose reset gate acts after the hidden product.
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
        hidden: The layer's output, `(…, hidden_size)`.
        cell: The inner state, of the same shape.
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
        summed: Whether the products with the input and with the hidden state enter only as
            their sum. If not, `update` gets the pair of them.
        update: `(products, state) -> state`, elementwise and without parameters. The first part
            of a state is the output.
        initial: `(zeros) -> state` for an array of zeros.
    """

    gates: int
    summed: bool
    update: Callable[[Any, Any], Any]
    initial: Callable[[Any], Any]


def _rnn(nonlinearity: Callable[[Array], Array]) -> Cell:
    return Cell(1, True, lambda products, _: nonlinearity(products), lambda zeros: zeros)


def _gru(products: tuple[Array, Array], hidden: Array) -> Array:
    (reset_in, update_in, new_in), (reset_hidden, update_hidden, new_hidden) = (xp.split(p, 3, -1) for p in products)
    reset = xp.sigmoid(reset_in + reset_hidden)
    update = xp.sigmoid(update_in + update_hidden)
    new = xp.tanh(new_in + reset * new_hidden)
    return new + update * (hidden - new)


def _lstm(products: Array, state: LSTMState) -> LSTMState:
    keep_new, keep_old, new, show = xp.split(products, 4, -1)
    cell = xp.sigmoid(keep_old) * state.cell + xp.sigmoid(keep_new) * xp.tanh(new)
    return LSTMState(xp.sigmoid(show) * xp.tanh(cell), cell)


CELLS: Mapping[str, Cell] = {
    "rnn": _rnn(xp.tanh),
    "rnn_relu": _rnn(xp.relu),
    "gru": Cell(3, False, _gru, lambda zeros: zeros),
    "lstm": Cell(4, True, _lstm, lambda zeros: LSTMState(zeros, zeros)),
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
    """The products with the input and the hidden state; a sum of two is one product of concatenated operands."""
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


def unroll(
    cell: Cell,
    dtype: Any,
    weights: Weights,
    state: Any,
    x: Float[Array, "time *batch features"],
    resets: Bool[Array, " time *batch"],
) -> tuple[Float[Array, "time *batch hidden"], Any]:
    """The outputs at every step and the state after the last; `resets` zeroes the state before a step."""

    def body(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
        state = step(cell, weights, state, *inputs, dtype)
        return state, output(state)

    state, outputs = jax.lax.scan(body, state, (x, resets))
    return outputs, state


# The cells whose gates decide how long a unit remembers.
GATED = ("gru", "lstm", "mingru")


def gate_biases(cell: str, log_steps: Float[Array, " hidden"]) -> Float[Array, " gates"]:
    """Biases of a gated cell with which its units remember for exp(log_steps) steps."""
    zeros = xp.zeros_like(log_steps)
    # The MinGRU's only gate admits the new state, like the LSTM's first; the other gates here keep the old one.
    gru, lstm = (zeros, log_steps, zeros), (-log_steps, log_steps, zeros, zeros)
    return xp.concatenate({"gru": gru, "lstm": lstm, "mingru": (-log_steps,)}[cell], -1)


def longest(memory_steps: int) -> float:
    """The upper end of the uniform distribution from which a unit's number of steps is drawn."""
    return max(memory_steps - 1.0, 1.01)


def refuse_none(carry: Any) -> None:
    """Refuses None as the carry of a recurrent network."""
    if carry is None:
        raise ValueError(
            "carry: expected the state of this recurrent network, got None. Start with initial_carry(batch_shape)."
        )

"""The recurrent cells as formulas: one step, from which the unrolled sequence is made.

The parameters have the meaning they have in `torch.nn`, so that weights convert exactly:
`kernel_input` is torch's `weight_ih` transposed, `kernel_hidden` its `weight_hh`, and both biases
are kept although the cells that add them need only their sum. The gates lie side by side on the
last axis, in torch's order: for the LSTM input, forget, candidate, output; for the GRU reset,
update, candidate, with the reset gate applied after the hidden product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from gaussjax.core.arrays import xp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class LSTMState(NamedTuple):
    """What an LSTM layer remembers.

    Attributes:
        hidden: Its output, `(…, hidden_size)`.
        cell: Its inner state, of the same shape.
    """

    hidden: Float[Array, "*batch hidden"]
    cell: Float[Array, "*batch hidden"]


class Weights(NamedTuple):
    """The parameters of one recurrent layer with `g` gates.

    Attributes:
        kernel_input: `(features, g * hidden)`.
        kernel_hidden: `(hidden, g * hidden)`.
        bias_input: `(g * hidden,)`.
        bias_hidden: `(g * hidden,)`.
    """

    kernel_input: Float[Array, "features gates"]
    kernel_hidden: Float[Array, "hidden gates"]
    bias_input: Float[Array, " gates"]
    bias_hidden: Float[Array, " gates"]


class Cell(NamedTuple):
    """One kind of recurrent layer.

    Attributes:
        gates: How many blocks of `hidden` columns the kernels have.
        summed: Whether the products with the input and with the hidden state enter only as
            their sum. If not, `update` gets the pair of them.
        update: `(products, state) -> state`, elementwise and without parameters. The first part
            of a state is the output.
        initial: `(zeros) -> state`, of an array of zeros.
        collect_from: From how many gate entries a step (batch * gates * hidden) on the backward pass
            that collects is the faster one, as measured by `benchmarks/recurrent.py`; None is never.
    """

    gates: int
    summed: bool
    update: Callable[[Any, Any], Any]
    initial: Callable[[Any], Any]
    collect_from: int | None


def _rnn(nonlinearity: Callable[[Array], Array]) -> Cell:
    return Cell(1, True, lambda products, _: nonlinearity(products), lambda zeros: zeros, 2**15)


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
    "gru": Cell(3, False, _gru, lambda zeros: zeros, None),
    "lstm": Cell(4, True, _lstm, lambda zeros: LSTMState(zeros, zeros), 0),
}


def output(state: Any) -> Array:
    """The part of a layer's state that the next layer sees."""
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
    """What a cell's `update` needs of the input and of the hidden state.

    The sum of two products is one product of the concatenated operands.
    """
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

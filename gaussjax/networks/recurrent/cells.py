"""Recurrent cells: the formulas of one step, scans over a sequence, and initial biases of gates.

`kernel_input` is the transpose of `weight_ih` in `torch.nn`, and `kernel_hidden` the transpose of `weight_hh`. A
layer has two biases, as in `torch.nn`. The last axis has the gates in torch's order: input, forget, candidate, output
for the LSTM; reset, update, candidate for the GRU.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaussjax.core.arrays import xp
from gaussjax.core.compiled import varying


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
    """The formulas of one kind of recurrent layer.

    Attributes:
        gates: Number of blocks of `hidden` columns in the kernels.
        summed: Whether `update` gets the sum of the input's and the hidden state's matrix products, not their pair.
        update: The elementwise function `(products, state) -> state`, which has no parameters.
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
    """Returns the part of a layer's state that is the input of the next layer."""
    return jax.tree.leaves(state)[0]


def clear(state: Any, resets: Bool[Array, "*batch"] | None) -> Any:
    """Sets the state to zero in each row in which an episode starts."""
    if resets is None:
        return state
    return jax.tree.map(lambda part: xp.where(resets[..., None], xp.zeros_like(part), part), state)


def guarded(function: Callable[[Any], Any], x: Any, rank: int = 1) -> Any:
    """Applies a function to the rows of `x`, which have `rank` axes; a row that is not finite becomes NaN.

    The function gets zeros in place of such a row, which adds zero to all gradients. The product of a zero gradient
    with the row itself would be NaN.
    """
    finite = _finite(x, tuple(range(-rank, 0)), keepdims=True)
    results = function(xp.where(finite, x, xp.zeros_like(x)))
    # A log_std without batch axes depends on no row.
    return jax.tree.map(lambda y: _nan_unless(finite, y) if y.ndim == x.ndim else y, results)


def _finite(x: Array, axes: tuple[int, ...], **options: Any) -> Array:
    # A sum, because XLA takes ten times as long to evaluate a conjunction of constants (CPU, jax 0.10.2).
    return xp.isfinite(xp.sum(x * 0, axis=axes, **options))


def _nan_unless(finite: Array, y: Array) -> Array:
    # `bound - bound` is 0 or NaN. A constant of NaN would raise under `jax_debug_nans` outside of `jit`. Neither has a
    # gradient, because NaN times zero would be NaN in the gradients of the function.
    bound = xp.astype(xp.where(finite, 0.0, math.inf), y.dtype)
    return xp.where(finite, y, bound - bound)


def guarded_sequence(run: Callable[[Any, Any], tuple[Any, Any]], x: Any, carry: Any, resets: Any) -> tuple[Any, Any]:
    """Runs layers like `guarded`; an observation or a carry that is not finite gives NaN until the next reset."""
    seen, *known = (_finite(part, (-1,)) for part in (x, *jax.tree.leaves(carry)))
    old = functools.reduce(operator.and_, known)
    outputs, carry = run(xp.where(seen[..., None], x, xp.zeros_like(x)), clear(carry, ~old))
    if seen.ndim == old.ndim:
        finite = last = seen & (old if resets is None else old | resets)
    else:
        # Compares the number of such observations so far with their number at the latest reset.
        number = xp.cumsum(~seen, 0) + xp.where(old, 0, 1)[None]
        forgotten = xp.zeros_like(number) if resets is None else xp.where(resets, xp.where(seen, number, number - 1), 0)
        finite = number == xp.running_maximum(forgotten)
        last = finite[-1] if len(finite) else old
    return _nan_unless(finite[..., None], outputs), jax.tree.map(lambda y: _nan_unless(last[..., None], y), carry)


def product(left: Array, right: Array, dtype: Any, into: Any) -> Array:
    """Multiplies two matrices in `dtype`, and accumulates the products in the dtype `into`."""
    return xp.matmul(xp.astype(left, dtype), xp.astype(right, dtype), preferred_element_type=into)


def products(cell: Cell, weights: Weights, hidden: Array, x: Array, dtype: Any) -> Any:
    """Multiplies the input and the hidden state by the kernels, in one product if the cell needs only the sum."""
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
    """Returns the state after one observation; where `resets` is True, the old state is zeroed first."""
    state = clear(state, resets)
    return cell.update(products(cell, weights, output(state), x, dtype), state)


def typed(state: Any, weights: Weights, x: Array, resets: Array | None) -> Any:
    """Shards the state before `x`, a row or a sequence, like the following states, because a loop keeps its types."""
    leaves, structure = jax.tree.flatten(state)
    rows = (x[0] if x.ndim > leaves[0].ndim and len(x) else x), *leaves
    if rows[0].ndim == leaves[0].ndim:
        _, *leaves = xp.broadcast_together(rows, [row.shape for row in rows])
    return varying(structure.unflatten(leaves), like=(weights, x, resets))


def unroll(cell: Cell, dtype: Any, weights: Weights, state: Any, x: Array, resets: Array) -> tuple[Array, Any]:
    """Runs a cell over the sequence `x`, `(T, …, features)`; returns the outputs `(T, …, hidden)` and last state."""

    def body(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
        state = step(cell, weights, state, *inputs, dtype)
        return state, output(state)

    # JAX refuses a loop without steps under `jax.disable_jit`.
    with contextlib.nullcontext() if len(x) else jax.disable_jit(False):
        state, outputs = jax.lax.scan(body, state, (x, resets))
    return outputs, state


def linear_recurrence(
    decay: Float[Array, " time *shape"],
    inputs: Float[Array, " time *shape"],
    initial: Float[Array, " *shape"],
    resets: Bool[Array, " time *batch"],
) -> Float[Array, " time *shape"]:
    """Computes all states `h[t] = decay[t] * h[t-1] + inputs[t]`, elementwise, from `h[-1] = initial`.

    Where `resets[t]` is True, `h[t-1]` counts as zero, even if it is NaN or infinite.

    Source:
        Blelloch 1990, prefix sums and their applications, section 1.4.
    """
    first = inputs[:1] + decay[:1] * clear(initial, resets[0])[None]
    inputs = jnp.concatenate([first, inputs[1:]])
    # On the few cores of a CPU the parallel scan is slower than the loop.
    ways = {"cpu": recurrence_by_a_loop, "default": recurrence_by_a_scan}
    return jax.lax.platform_dependent(decay, inputs, resets, **ways)


def recurrence_by_a_scan(decay: Array, inputs: Array, resets: Array) -> Array:
    """Computes the states by an associative scan, with O(log T) dependent operations but more memory traffic."""

    def compose(early: Any, late: Any) -> Any:
        resets = late[2]
        # Zeros replace both factors, because the gradient of a product with NaN or infinity would be NaN.
        early_decay, early_state, decay = clear((early[0], early[1], late[0]), resets)
        return early_decay * decay, decay * early_state + late[1], early[2] | resets

    return jax.lax.associative_scan(compose, (decay, inputs, resets))[1]


def recurrence_by_a_loop(decay: Array, inputs: Array, resets: Array) -> Array:
    """Computes the states by a loop over the steps, with T dependent operations but the least work."""

    def advance(state: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        decay, inputs, resets = step
        state = decay * clear(state, resets) + inputs
        return state, state

    first = varying(jnp.zeros_like(inputs[0]), like=(decay, inputs, resets))
    return jax.lax.scan(advance, first, (decay, inputs, resets))[1]


# Cells whose gates decide for how many steps a unit remembers.
GATED = ("gru", "lstm", "mingru")


def gate_biases(cell: str, log_steps: Any) -> Any:
    """Returns biases with which each unit of a gated cell remembers for `exp(log_steps)` steps."""
    zeros = xp.zeros_like(log_steps)
    # Negative biases close the gates that admit the new state; positive ones open the gates that keep the old state.
    gru, lstm = (zeros, log_steps, zeros), (-log_steps, log_steps, zeros, zeros)
    return xp.concatenate({"gru": gru, "lstm": lstm, "mingru": (-log_steps,)}[cell], -1)


def longest(memory_steps: int) -> float:
    """Returns the largest number of steps for which the initial biases let a unit remember."""
    return max(memory_steps - 1.0, 1.01)


def refuse_none(carry: Any) -> None:
    """Raises ValueError if the carry of a recurrent network is None."""
    if carry is None:
        raise ValueError(
            "carry: expected the state of this recurrent network, got None. Start with initial_carry(batch_shape)."
        )

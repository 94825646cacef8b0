"""A recurrent layer over a whole sequence, with resets, and its backward pass.

Automatic differentiation of a scan adds one small weight gradient a step. Here the backward scan
only collects the gradients of the gates; each weight gradient is then one product over many steps
at once. It goes through time in blocks, so that what one block collects stays in the cache.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from gaussjax.networks.recurrent.cells import Cell, Weights, clear, output, product, products, step

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

# Steps of a block: as many as collect 2 MiB, between these limits; see benchmarks/NOTES-recurrent.md.
_BLOCK_ENTRIES, _SHORTEST, _LONGEST = 2**19, 4, 16


def unroll(
    cell: Cell,
    weights: Weights,
    state: Any,
    x: Float[Array, "time *batch features"],
    resets: Bool[Array, " time *batch"] | None,
    dtype: Any,
    autodiff: bool = False,
) -> tuple[Float[Array, "time *batch hidden"], Any]:
    """The outputs at every step and the state after the last.

    Args:
        cell: The formula of the layer.
        weights: Its parameters.
        state: The state before the first step, of the batch shape.
        x: The inputs, time first.
        resets: True where the state is zeroed before that step.
        dtype: Type of the matrix products.
        autodiff: Differentiate the scan step by step, which forward mode needs. It is also done where
            that is as fast, which is a matter of the cell and of the sizes.
    """
    if resets is None:
        resets = jnp.zeros(x.shape[:-1], bool)
    small = x.shape[0] == 0 or cell.collect_from is None or _entries(cell, state) < cell.collect_from
    # A rule of our own would have to add up what the devices of a `shard_map` found; JAX's own does.
    if autodiff or small or _spread(x) != _spread(weights.kernel_input):

        def body(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, Array]:
            state = step(cell, weights, state, *inputs, dtype)
            return state, output(state)

        state, outputs = jax.lax.scan(body, state, (x, resets))
        return outputs, state
    return collected(cell, dtype, weights, state, x, resets)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def collected(cell: Cell, dtype: Any, weights: Weights, state: Any, x: Array, resets: Array) -> tuple[Array, Any]:
    """`unroll` with the backward pass that collects, of a `summed` cell; at least one step, and no forward mode."""
    return unroll(cell, weights, state, x, resets, dtype, autodiff=True)


def _forward(cell: Cell, dtype: Any, weights: Weights, state: Any, x: Array, resets: Array) -> Any:
    def body(state: Any, inputs: tuple[Array, Array]) -> Any:
        x, resets = inputs
        before = clear(state, resets)
        gates = products(cell, weights, output(before), x, dtype)
        state = cell.update(gates, before)
        return state, (output(state), before, gates)

    last, (outputs, before, gates) = jax.lax.scan(body, state, (x, resets))
    return (outputs, last), (weights, x, resets, before, gates)


def _backward(cell: Cell, dtype: Any, saved: Any, cotangents: Any) -> Any:
    weights, x, resets, before, gates = saved
    d_outputs, d_state = cotangents
    into = d_outputs.dtype
    back = weights.kernel_hidden.T

    def body(d_state: Any, inputs: Any) -> Any:
        d_output, resets, before, gates = inputs
        leaves, structure = jax.tree.flatten(d_state)
        d_state = structure.unflatten([leaves[0] + d_output, *leaves[1:]])
        d_gates, d_before = jax.vjp(cell.update, gates, before)[1](d_state)
        leaves, structure = jax.tree.flatten(d_before)
        d_hidden = leaves[0] + product(d_gates, back, dtype, into)
        return clear(structure.unflatten([d_hidden, *leaves[1:]]), resets), d_gates

    def block(carry: Any, start: Any, length: int) -> Any:
        d_state, d_weights = carry
        x_, resets_, before_, gates_, d_outputs_ = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), (x, resets, before, gates, d_outputs)
        )
        d_state, d_gates = jax.lax.scan(body, d_state, (d_outputs_, resets_, before_, gates_), reverse=True)
        d_x = product(d_gates, weights.kernel_input.T, dtype, into).astype(x.dtype)
        new = _weight_gradients(x_, output(before_), d_gates, dtype)
        return (d_state, jax.tree.map(jnp.add, d_weights, new)), d_x

    affordable = _BLOCK_ENTRIES // max(_entries(cell, d_state), 1)
    length = min(max(_SHORTEST, min(_LONGEST, affordable)), x.shape[0])
    count, rest = divmod(x.shape[0], length)
    carry = d_state, jax.tree.map(lambda w: jnp.zeros(w.shape, into), weights)
    tail = []
    if rest:
        carry, d_x = block(carry, count * length, rest)
        tail = [d_x]
    carry, d_x = jax.lax.scan(lambda c, i: block(c, i * length, length), carry, jnp.arange(count), reverse=True)
    d_x = d_x.reshape(count * length, *x.shape[1:])
    d_state, d_weights = carry
    d_weights = jax.tree.map(lambda gradient, w: gradient.astype(w.dtype), d_weights, weights)
    return d_weights, d_state, jnp.concatenate([d_x, *tail]) if tail else d_x, None


def _weight_gradients(x: Array, hidden: Array, d_gates: Array, dtype: Any) -> Weights:
    into = hidden.dtype
    x, hidden, d_gates = (a.reshape(-1, a.shape[-1]) for a in (x, hidden, d_gates))
    joined = jnp.concatenate([x.astype(into), hidden], -1)
    kernel_input, kernel_hidden = jnp.split(product(joined.T, d_gates, dtype, into), [x.shape[-1]])
    # A sum over rows as a product with ones: XLA's own reduction over the first axis is many times slower.
    bias = jnp.squeeze(jnp.ones((1, x.shape[0]), into) @ d_gates, 0)
    return Weights(kernel_input, kernel_hidden, bias, bias)


def _spread(array: Array) -> Any:
    """Over which axes of a `shard_map` an array differs, as JAX tells it, under one name or the other."""
    told = jax.typeof(array)
    return getattr(told, "mat", None) or getattr(told, "vma", None)


def _entries(cell: Cell, state: Any) -> int:
    """Numbers that a step gives as gates."""
    return output(state).size * cell.gates


collected.defvjp(_forward, _backward)

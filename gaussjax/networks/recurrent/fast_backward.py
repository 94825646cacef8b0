"""A backward pass of the LSTM that is faster than JAX's own, but does not support forward mode.

JAX's backward pass of a scan computes a weight gradient at each step and adds it to the sum. Here the backward scan
collects the gradients of the gates, and one matrix product over many steps computes the weight gradient. The scan
runs in blocks of steps, so that the gate gradients of a block fit into the cache.
"""

# XLA: a scan that sums weight gradients reads and writes the whole kernel at each step. On CPU this backward pass
# takes 0.66 times as long at 64 steps, 64 rows and 256 units, and 0.8 times with 64 units (jax 0.10.2). RNN, GRU and
# MinGRU gain less than 10%. Remove this file when
# tests/faults/test_overhead.py::test_the_fast_backward_is_still_faster fails.

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gaussjax.core.compiled import varying, varying_axes
from gaussjax.networks.recurrent.cells import Cell, Weights, clear, output, product, products, unroll

# A block has 4 to 16 steps, with about 2 MiB of gate gradients; benchmarks/NOTES-recurrent.md has the measurements.
_BLOCK_ENTRIES, _SHORTEST, _LONGEST = 2**19, 4, 16


def supports(weights: Weights, x: Array) -> bool:
    """Returns True if `fast_unroll` supports these arguments."""
    # Under `shard_map`, the gradient of shared weights is a sum over devices, which `fast_unroll` does not compute.
    return x.shape[0] > 0 and varying_axes(x) == varying_axes(weights.kernel_input)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fast_unroll(cell: Cell, dtype: Any, weights: Weights, state: Any, x: Array, resets: Array) -> tuple[Array, Any]:
    """Same as `unroll`, but with the faster backward pass. Needs a `summed` cell and at least one step."""
    return unroll(cell, dtype, weights, state, x, resets)


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

    def body(d_state: Any, inputs: Any) -> Any:
        d_output, resets, before, gates = inputs
        leaves, structure = jax.tree.flatten(d_state)
        d_state = structure.unflatten([leaves[0] + d_output, *leaves[1:]])
        d_gates, d_before = jax.vjp(cell.update, gates, before)[1](d_state)
        leaves, structure = jax.tree.flatten(d_before)
        d_hidden = leaves[0] + product(d_gates, weights.kernel_hidden.T, dtype, into)
        return clear(structure.unflatten([d_hidden, *leaves[1:]]), resets), d_gates

    def block(carry: Any, start: Any, length: int) -> Any:
        d_state, d_weights = carry
        x_, resets_, before_, gates_, d_outputs_ = jax.tree.map(
            lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), (x, resets, before, gates, d_outputs)
        )
        d_state, d_gates = jax.lax.scan(body, d_state, (d_outputs_, resets_, before_, gates_), reverse=True)
        d_x = product(d_gates, weights.kernel_input.T, dtype, into).astype(x.dtype)
        x_, hidden, d_gates = (a.reshape(-1, a.shape[-1]) for a in (x_, output(before_), d_gates))
        joined = jnp.concatenate([x_.astype(into), hidden], -1)
        kernel_input, kernel_hidden = jnp.split(product(joined.T, d_gates, dtype, into), [x.shape[-1]])
        bias = d_gates.sum(0)
        new = Weights(kernel_input, kernel_hidden, bias, bias)
        return (d_state, jax.tree.map(jnp.add, d_weights, new)), d_x

    affordable = _BLOCK_ENTRIES // max(output(d_state).size * cell.gates, 1)
    length = min(max(_SHORTEST, min(_LONGEST, affordable)), x.shape[0])
    count, rest = divmod(x.shape[0], length)
    carry = varying((d_state, jax.tree.map(lambda w: jnp.zeros(w.shape, into), weights)), like=(saved, cotangents))
    tail = []
    if rest:
        carry, d_x = block(carry, count * length, rest)
        tail = [d_x]
    carry, d_x = jax.lax.scan(lambda c, i: block(c, i * length, length), carry, jnp.arange(count), reverse=True)
    d_x = d_x.reshape(count * length, *x.shape[1:])
    d_state, d_weights = carry
    d_weights = jax.tree.map(lambda gradient, w: gradient.astype(w.dtype), d_weights, weights)
    return d_weights, d_state, jnp.concatenate([d_x, *tail]) if tail else d_x, None


fast_unroll.defvjp(_forward, _backward)

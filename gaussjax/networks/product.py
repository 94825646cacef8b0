"""The product of a dense layer, whose gradient is fast on CPU where few outputs are made of many inputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

# Of one output XLA makes a sum, which is as fast.
_FEWEST, _MOST = 2, 16


def dot_general(x: jax.Array, kernel: jax.Array, dimension_numbers: Any, precision: Any = None) -> jax.Array:
    """`jax.lax.dot_general` for a dense layer: `narrow_product` where that is the faster one."""
    inputs, outputs = kernel.shape
    if jax.default_backend() == "cpu" and precision is None and _FEWEST <= outputs <= min(_MOST, inputs // 2):
        return narrow_product(x, kernel)
    return lax.dot_general(x, kernel, dimension_numbers, precision=precision)


@jax.custom_jvp
def narrow_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel` over the last axis of `x`, for a kernel of few columns.

    The gradient of the kernel is `xᵀ g`, `g` being that of the result. Of a product whose left side is to be read
    transposed XLA's CPU backend makes a slow loop where it has a fast routine for others. So the gradient is made
    as `(gᵀ x)ᵀ`: it is the narrow `g` that is turned, and what comes of it. Barriers keep XLA from putting the
    three together again.

    Args:
        x: `(…, in)`.
        kernel: `(in, out)`.

    Returns:
        `(…, out)`.

    Example:
        >>> import jax.numpy as jnp
        >>> narrow_product(jnp.ones((5, 3)), jnp.ones((3, 1))).shape
        (5, 1)
    """
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _narrow_product_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x, kernel), (x_tangent, kernel_tangent) = primals, tangents
    y = narrow_product(x, kernel)
    terms = []
    if not isinstance(x_tangent, SymbolicZero):
        terms.append(narrow_product(x_tangent, kernel))
    if not isinstance(kernel_tangent, SymbolicZero):
        # What is written here is the way forward; reversed, each line is the way that the docstring tells.
        rows = lax.optimization_barrier(jnp.transpose(kernel_tangent))
        columns = lax.dot_general(rows, x, (((1,), (x.ndim - 1,)), ((), ())))
        terms.append(jnp.moveaxis(lax.optimization_barrier(columns), 0, -1))
    return y, sum(terms[1:], terms[0]) if terms else SymbolicZero.from_primal_value(y)


narrow_product.defjvp(_narrow_product_jvp, symbolic_zeros=True)

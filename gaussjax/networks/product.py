"""The product of a dense layer, with a gradient of the kernel that is fast on CPU."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

_MOST_ROWS = 1024


@jax.custom_jvp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel` over the last axis of `x`.

    The gradient of the kernel is the transpose of `x` times that of the result. XLA's CPU backend runs a
    product whose left side is to be read transposed by a slower routine, so `x` is transposed first, on
    the far side of a barrier, lest XLA put the two together again. Where `x` has very many rows its
    transpose costs more than it saves, and the product stays as it is.

    Args:
        x: `(…, in)`.
        kernel: `(in, out)`.

    Returns:
        `(…, out)`.

    Example:
        >>> import jax.numpy as jnp
        >>> product(jnp.ones((5, 3)), jnp.ones((3, 2))).shape
        (5, 2)
    """
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _product_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (x, kernel), (x_tangent, kernel_tangent) = primals, tangents
    y = product(x, kernel)
    terms = []
    if not isinstance(x_tangent, SymbolicZero):
        terms.append(lax.dot_general(x_tangent, kernel, (((x.ndim - 1,), (0,)), ((), ()))))
    if not isinstance(kernel_tangent, SymbolicZero):
        few = math.prod(x.shape[:-1]) <= _MOST_ROWS
        columns = lax.optimization_barrier(jnp.moveaxis(x, -1, 0)) if few else jnp.moveaxis(x, -1, 0)
        terms.append(lax.dot_general(columns, kernel_tangent, (((0,), (0,)), ((), ()))))
    return y, sum(terms[1:], terms[0]) if terms else SymbolicZero.from_primal_value(y)


product.defjvp(_product_jvp, symbolic_zeros=True)

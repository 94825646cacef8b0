"""The product and the sum of a dense layer, with gradients that are fast on CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

# Of one output XLA makes a sum, which is as fast.
_FEWEST, _MOST = 2, 16


def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """`x @ kernel + bias` over the last axis of `x`, by whichever rules for the gradients are the faster ones.

    Example:
        >>> import jax.numpy as jnp
        >>> affine(jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.ones(1)).tolist()
        [[4.0], [4.0]]
    """
    inputs, outputs = kernel.shape
    on_cpu = jax.default_backend() == "cpu"
    multiply = narrow_product if on_cpu and _FEWEST <= outputs <= min(_MOST, inputs // 2) else _product
    y = multiply(x, kernel)
    # With few digits the gradient stays a reduction, which XLA makes in more of them.
    if on_cpu and jnp.finfo(y.dtype).bits >= 32:
        return biased(y, bias)
    return _sum(y, bias)


def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.dot_general(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def _sum(y: jax.Array, bias: jax.Array) -> jax.Array:
    return y + jnp.broadcast_to(bias, y.shape)


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
    return _product(x, kernel)


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


@jax.custom_jvp
def biased(y: jax.Array, bias: jax.Array) -> jax.Array:
    """`y + bias`, for a bias of `y`'s last axis.

    The gradient of the bias is the sum of the rows' gradients, made as their product with ones: of a sum over the
    first axis XLA's CPU backend makes two small loops, which at small batches cost more than the product does.

    Args:
        y: `(…, out)`.
        bias: `(out,)`.

    Returns:
        `(…, out)`.

    Example:
        >>> import jax.numpy as jnp
        >>> biased(jnp.zeros((2, 3)), jnp.ones(3)).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    return _sum(y, bias)


def _biased_jvp(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, Any]:
    (y, bias), (y_tangent, bias_tangent) = primals, tangents
    total = biased(y, bias)
    terms = []
    if not isinstance(y_tangent, SymbolicZero):
        terms.append(y_tangent)
    if not isinstance(bias_tangent, SymbolicZero):
        # Ones made of `y`, so that under vmap each member has its own. With ones that are shared, vmap makes one
        # product of all members, in which the rows come second: up to three times the time of a sum.
        ones = lax.integer_pow(y[..., 0], 0)
        # Reversed, this outer product is the product with ones.
        terms.append(lax.dot_general(ones, bias_tangent, (((), ()), ((), ()))))
    return total, sum(terms[1:], terms[0]) if terms else SymbolicZero.from_primal_value(total)


biased.defjvp(_biased_jvp, symbolic_zeros=True)

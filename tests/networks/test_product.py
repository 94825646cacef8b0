from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.networks.product import product

X = jax.random.normal(jax.random.key(0), (6, 5, 3))
KERNEL = jax.random.normal(jax.random.key(1), (3, 4))
DERIVATIVES = {
    "the gradient by both": lambda f: jax.grad(f, (0, 1)),
    "the gradient by the kernel": lambda f: jax.grad(f, 1),
    "forward mode": lambda f: jax.jacfwd(f, (0, 1)),
    "forward over reverse": lambda f: jax.hessian(f, 1),
    "reverse over reverse": lambda f: jax.jacrev(jax.grad(f, (0, 1)), 1),
    "each of a batch": lambda f: jax.vmap(jax.grad(f, (0, 1)), (0, None)),
}


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_values_and_derivatives_are_those_of_the_matrix_product(derivative):
    def loss(multiply):
        return lambda x, kernel: jnp.sum(jnp.square(jnp.tanh(multiply(x, kernel))))

    got, expected = (derivative(loss(multiply))(X, KERNEL) for multiply in (product, jnp.matmul))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5), got, expected)


def test_the_left_side_of_the_kernel_s_gradient_is_read_as_it_lies():
    if jax.default_backend() != "cpu":
        pytest.skip("the routine is that of the CPU backend")
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.square(product(x, kernel)))))
    for shape in ((256, 64), (4, 64, 64)):
        program = gradient.lower(jnp.ones((64, 64)), jnp.ones(shape)).compile().as_text()
        assert "lhs_contracting_dims={0}" not in program

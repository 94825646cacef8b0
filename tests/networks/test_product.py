from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.networks.product import narrow_product

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

    got, expected = (derivative(loss(multiply))(X, KERNEL) for multiply in (narrow_product, jnp.matmul))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5), got, expected)


@pytest.mark.parametrize("shape", [(256, 64), (4, 64, 64)])
def test_no_product_of_the_kernel_s_gradient_reads_its_left_side_transposed(shape):
    if jax.default_backend() != "cpu":
        pytest.skip("the routine is that of the CPU backend")
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.square(narrow_product(x, kernel)))))
    program = gradient.lower(jnp.ones((64, 6)), jnp.ones(shape)).compile().as_text()
    assert " dot(" in program
    assert "lhs_contracting_dims={0}" not in program


@pytest.mark.parametrize(("actions", "narrow"), [(6, True), (1, False), (40, False)])
def test_layers_of_few_outputs_and_no_others_take_it(actions, narrow):
    if jax.default_backend() != "cpu":
        pytest.skip("the routine is that of the CPU backend")
    policy = gaussjax.gaussian(gaussjax.networks.MLP((64,)), 3, gaussjax.spaces.Box((actions,)))
    program = str(jax.make_jaxpr(policy.evaluate)(policy.init(jax.random.key(0)), X[0], jnp.zeros((5, actions))))
    assert ("narrow_product" in program) == narrow

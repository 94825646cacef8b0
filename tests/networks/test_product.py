from __future__ import annotations

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.networks.layers import Dense
from gaussjax.networks.product import biased, narrow_product

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
    policy = gaussjax.gaussian(gaussjax.networks.MLP((64,)), 3, gaussjax.spaces.Box(shape=(actions,)))
    program = str(jax.make_jaxpr(policy.evaluate)(policy.init(jax.random.key(0)), X[0], jnp.zeros((5, actions))))
    assert ("narrow_product" in program) == narrow


@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=DERIVATIVES)
def test_values_and_derivatives_are_those_of_the_sum_with_a_bias(derivative):
    def loss(add):
        return lambda x, bias: jnp.sum(jnp.square(jnp.tanh(add(x, bias))))

    bias = KERNEL[0, :3]
    got = derivative(loss(biased))(X, bias)
    expected = derivative(loss(lambda x, bias: x + jnp.broadcast_to(bias, x.shape)))(X, bias)
    chex.assert_trees_all_close(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("in_axes", [(0, 0), (None, 0)], ids=["own parameters", "own inputs"])
def test_each_member_of_a_population_has_its_own_product_with_ones(in_axes):
    def gradient(bias, x):
        return jax.grad(lambda bias: jnp.sum(jnp.square(biased(x, bias))))(bias)

    bias = jnp.ones((6, 3)) if in_axes[0] == 0 else jnp.ones(3)
    program = jax.make_jaxpr(jax.vmap(gradient, in_axes))(bias, X)
    (product,) = (equation for equation in program.eqns if equation.primitive.name == "dot_general")
    assert product.params["dimension_numbers"][1] == ((0,), (0,))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (6, 5, 3)])
def test_a_dense_layer_has_flax_s_parameters_values_and_gradients(shape, dtype):
    x = jax.random.normal(jax.random.key(2), shape)
    start = nn.initializers.lecun_normal()
    ours, theirs = Dense(8, start, dtype=dtype), nn.Dense(8, kernel_init=start, dtype=dtype)
    params = ours.init(jax.random.key(3), x)
    chex.assert_trees_all_equal(params, theirs.init(jax.random.key(3), x))
    got, expected = (
        jax.value_and_grad(lambda p, layer=layer: jnp.sum(jnp.sin(layer.apply(p, x).astype(jnp.float32))))(params)
        for layer in (ours, theirs)
    )
    chex.assert_trees_all_close(got, expected, rtol=2e-5, atol=2e-5)


def test_no_gradient_of_a_bias_is_a_sum_in_two_loops():
    if jax.default_backend() != "cpu":
        pytest.skip("the loops are those of the CPU backend")
    layer = Dense(32, nn.initializers.lecun_normal())
    params, x = layer.init(jax.random.key(0), X[0]), jnp.ones((64, 3))
    gradient = jax.jit(jax.grad(lambda params, x: jnp.sum(jnp.square(layer.apply(params, x)))))
    assert "reduce-window" not in gradient.lower(params, x).compile().as_text()

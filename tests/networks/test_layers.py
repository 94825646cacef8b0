"""The activations that are ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.networks.layers import activation, elu

POINTS = np.array([-np.inf, -1e30, -100.0, -20.0, -3.0, -1.0, -1e-8, -1e-30, 0.0, 1e-30, 1e-8, 1.0, 1e30, np.inf])


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev], ids=["forward", "reverse"])
def test_derivatives_of_elu_are_those_of_its_formula(mode) -> None:
    functions = [elu, mode(elu), mode(mode(elu)), mode(mode(mode(elu)))]
    found = jax.jit(lambda points: [jax.vmap(function)(points) for function in functions])(np.float32(POINTS))
    for order, values in enumerate(found):
        below = np.expm1(np.minimum(POINTS, 0.0)) if order == 0 else np.exp(np.minimum(POINTS, 0.0))
        # At 0 the higher derivatives are those from the left, where they are not 0.
        above = POINTS if order == 0 else np.full(len(POINTS), float(order == 1))
        exact = np.where(POINTS > 0, above, below)
        np.testing.assert_allclose(values, exact.astype(np.float32), atol=1e-7, rtol=1e-6)


def test_forward_over_reverse_and_reverse_over_forward_of_elu_agree() -> None:
    x = np.linspace(-4.0, 4.0, 41, dtype=np.float32)
    both = [
        jax.jit(jax.vmap(outer(inner(elu))))(x) for outer, inner in ((jax.jacfwd, jax.grad), (jax.grad, jax.jacfwd))
    ]
    np.testing.assert_array_equal(*both)


def test_elu_in_bfloat16_keeps_the_digits_of_a_small_derivative() -> None:
    found = jax.grad(elu)(jnp.asarray(-6.0, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(found), np.exp(-6.0), rtol=0.01)


def test_elu_of_a_number_of_python_and_of_integers() -> None:
    assert float(activation("elu")(2)) == 2.0
    assert float(activation("elu")(-1.0)) == pytest.approx(np.expm1(-1.0), abs=1e-7)

"""The functions that formulas are written in: JAX's own where it matters, the same numbers everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gaussjax.core.arrays import xp
from gaussjax.distributions import DiagGaussian

MANY = 8192


def operations(function, *arguments):
    return {equation.primitive.name for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns}


def over_rows(array):
    return xp.sum(array, axis=-1)


@pytest.mark.parametrize("width", [2, 3, 8, 16])
def test_many_rows_of_few_entries_are_added_up_entry_by_entry(width):
    array = np.random.default_rng(width).normal(size=(MANY, width)).astype(np.float32)
    assert "reduce_sum" not in operations(over_rows, array)
    np.testing.assert_allclose(jax.jit(over_rows)(array), array.astype(np.float64).sum(-1), atol=2e-6)


@pytest.mark.parametrize("shape", [(MANY - 1, 8), (MANY, 1), (MANY, 17), (MANY * 8,)])
def test_other_sums_are_reductions(shape):
    array = jnp.ones(shape)
    assert operations(over_rows, array) == {"reduce_sum"}
    np.testing.assert_array_equal(over_rows(array), np.full(shape[:-1], shape[-1]))


def test_a_sum_over_another_axis_is_a_reduction():
    assert operations(xp.sum, jnp.ones((MANY, 8))) == {"reduce_sum"}
    assert xp.sum(jnp.ones((MANY, 8)), axis=0).shape == (8,)


def test_the_gradient_of_a_sum_by_entries_is_a_broadcast():
    array = jnp.asarray(np.random.default_rng(0).normal(size=(MANY, 5)), jnp.float32)
    weights = jnp.arange(MANY, dtype=jnp.float32)
    gradient = jax.grad(lambda array: jnp.sum(weights * over_rows(array)))
    np.testing.assert_array_equal(gradient(array), jnp.broadcast_to(weights[:, None], array.shape))
    assert "pad" not in str(jax.make_jaxpr(gradient)(array))


def test_a_sum_by_entries_is_differentiated_twice_and_forward():
    array = jnp.asarray(np.random.default_rng(1).normal(size=(MANY, 2)), jnp.float32)
    check_grads(lambda scale: jnp.mean(jnp.sin(over_rows(scale * array))), (jnp.float32(0.5),), order=2, rtol=2e-2)


def test_densities_of_many_samples_are_added_up_entry_by_entry():
    def log_prob(samples):
        return DiagGaussian(jnp.zeros(8), jnp.zeros(8)).log_prob(samples)

    few, many = (str(jax.make_jaxpr(log_prob)(jnp.ones((rows, 8)))) for rows in (MANY - 1, MANY))
    # Of the squares and of log_std, which is one row.
    assert few.count("reduce_sum") == 2
    assert many.count("reduce_sum") == 1

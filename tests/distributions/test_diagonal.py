"""The diagonal Gaussian's noise, tails, moments and shapes; `tests/numerics` measures its accuracy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import gaussjax.torch  # noqa: F401
from gaussjax.distributions import DiagGaussian


def test_the_log_prob_of_noise_is_that_of_the_action_it_makes():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(200, 3)).astype(np.float32)
    distribution = DiagGaussian(jnp.zeros(3), jnp.array([-20.0, 0.0, 2.0]))
    np.testing.assert_allclose(
        distribution.noise_log_prob(noise), distribution.log_prob(distribution.from_noise(noise)), rtol=2e-6
    )
    expected = scipy.stats.norm.logpdf(noise.astype(np.float64)).sum(-1) + 18.0
    np.testing.assert_allclose(distribution.noise_log_prob(noise), expected, rtol=1e-6)


@pytest.mark.parametrize("array", [np.asarray, torch.tensor], ids=["jax", "torch"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1)], ids=str)
def test_a_log_std_that_stands_for_all_dimensions_counts_for_each(shape, array):
    mean, log_std = np.zeros((4, 3), np.float32), np.full(shape, 0.5, np.float32)

    def terms(mean, log_std, reduction):
        one, other = DiagGaussian(mean, log_std), DiagGaussian(mean, 0.0 * log_std)
        densities = one.log_prob(mean, reduction), one.noise_log_prob(mean, reduction)
        return *densities, one.entropy(reduction), one.kl_divergence(other, reduction)

    run = terms if array is torch.tensor else jax.jit(terms, static_argnums=2)
    found = [run(array(mean), array(log_std), reduction) for reduction in ("none", "sum")]
    # A dimension has -½·log 2π - 0.5 = -1.4189385 at the mean, an entropy of 0.5 + ½ + ½·log 2π and a
    # divergence of (e - 2)/2.
    for each, total, term in zip(*found, (-1.4189385, -1.4189385, 1.9189385, 0.3591409), strict=True):
        np.testing.assert_allclose(each, np.full((4, 3), term), rtol=1e-6)
        np.testing.assert_allclose(total, np.full(4, 3 * term), rtol=1e-6)


def test_a_row_of_log_std_that_all_rows_share_is_added_up_once():
    def log_prob(log_std, noise):
        return DiagGaussian(jnp.zeros((1000, 6)), log_std).noise_log_prob(noise)

    # A square and a sum for each of the 6000 entries, a product and a sum for each row.
    cost = jax.jit(log_prob).lower(jnp.zeros(6), jnp.zeros((1000, 6))).compile().cost_analysis()
    assert cost["flops"] <= 2 * 6000 + 2 * 1000


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor])
@pytest.mark.parametrize("far", [math.inf, -math.inf, 1e30])
def test_the_density_of_an_action_beyond_all_numbers_is_zero(array, far):
    distribution, actions = DiagGaussian(*map(array, np.zeros((2, 2), np.float32))), array(np.float32([far, 1.0]))
    assert distribution.log_prob(actions) == -math.inf
    np.testing.assert_allclose(distribution.log_prob(actions, "none"), [-math.inf, -1.4189385], rtol=1e-6)


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize("far", [math.inf, -math.inf, 1e30])
def test_the_gradient_at_an_action_beyond_all_numbers_points_back(far):
    gradient = jax.grad(DiagGaussian(jnp.zeros(2), jnp.zeros(2)).log_prob)(jnp.array([far, 1.0]))
    np.testing.assert_allclose(gradient, [-far, -1.0], rtol=1e-6)


@pytest.mark.without("jax_debug_nans")
def test_the_slope_of_the_log_cdf_below_all_numbers_is_the_largest_number():
    one, below = DiagGaussian(jnp.zeros(1), jnp.zeros(1)), np.full(1, -np.inf, np.float32)
    slope = jax.grad(lambda action: one.log_cdf(action)[0])(jnp.asarray(below))
    assert slope[0] == np.finfo(np.float32).max
    action = torch.tensor(below, requires_grad=True)
    DiagGaussian(torch.zeros(1), torch.zeros(1)).log_cdf(action).backward()
    assert action.grad == np.finfo(np.float32).max

"""The diagonal Gaussian's noise, tails, moments and shapes; `tests/numerics` measures its accuracy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import gaussjax.torch  # noqa: F401
from gaussjax.distributions import DiagGaussian

U32 = 2.0**-24


def test_the_log_prob_of_noise_is_that_of_the_action_it_makes():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(200, 3)).astype(np.float32)
    distribution = DiagGaussian(jnp.zeros(3), jnp.array([-20.0, 0.0, 2.0]))
    np.testing.assert_allclose(
        distribution.noise_log_prob(noise), distribution.log_prob(distribution.from_noise(noise)), rtol=2e-6
    )
    expected = scipy.stats.norm.logpdf(noise.astype(np.float64)).sum(-1) + 18.0
    np.testing.assert_allclose(distribution.noise_log_prob(noise), expected, rtol=1e-6)


@pytest.mark.parametrize("side", ["log_cdf", "log_survival"])
def test_log_probabilities_of_the_sides_equal_scipys(side):
    actions = np.linspace(-30.0, 30.0, 121, dtype=np.float32)[:, None]
    theirs = scipy.stats.norm.logcdf if side == "log_cdf" else scipy.stats.norm.logsf
    got = getattr(DiagGaussian(np.full((1,), 0.5, np.float32), np.zeros(1, np.float32)), side)(actions)
    # Near a probability of one the logarithm is as small as the roundoff of the probability.
    np.testing.assert_allclose(got, theirs(actions.astype(np.float64), 0.5), rtol=2e-6, atol=U32)


def test_moments():
    distribution = DiagGaussian(np.array([[1.0, -2.0]] * 3, np.float32), np.array([0.0, -1.0], np.float32))
    for centre in (distribution.mean(), distribution.mode(), distribution.median()):
        np.testing.assert_array_equal(centre, [[1.0, -2.0]] * 3)
    np.testing.assert_allclose(distribution.stddev(), [[1.0, 0.36787944]] * 3, rtol=1e-6)
    samples = distribution.sample(jax.random.key(0), (20_000,))
    assert samples.shape == (20_000, 3, 2)
    # Standard errors of a mean and a std of 60,000 draws: std/245 and std/346; five of them.
    flat = np.asarray(samples).reshape(-1, 2)
    np.testing.assert_array_less(np.abs(flat.mean(0) - [1.0, -2.0]), np.array([1.0, 0.37]) * 5 / 245)
    np.testing.assert_array_less(np.abs(flat.std(0) - [1.0, 0.36787944]), np.array([1.0, 0.37]) * 5 / 346)
    for dimension, (mean, std) in enumerate([(1.0, 1.0), (-2.0, 0.36787944)]):
        assert scipy.stats.kstest(flat[:, dimension], "norm", (mean, std)).pvalue > 1e-3


@pytest.mark.parametrize("array", [np.asarray, torch.tensor], ids=["jax", "torch"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1)], ids=str)
def test_a_log_std_that_stands_for_all_dimensions_counts_for_each(shape, array):
    mean, log_std = np.zeros((4, 3), np.float32), np.full(shape, 0.5, np.float32)
    one, other = DiagGaussian(array(mean), array(log_std)), DiagGaussian(array(mean), array(0.0 * log_std))
    # A dimension has -½·log 2π - 0.5 = -1.4189385 at the mean, an entropy of 0.5 + ½ + ½·log 2π and a
    # divergence of (e - 2)/2.
    for got, term in (
        (one.log_prob, -1.4189385),
        (one.noise_log_prob, -1.4189385),
        (lambda _, *reduction: one.entropy(*reduction), 1.9189385),
        (lambda _, *reduction: one.kl_divergence(other, *reduction), 0.3591409),
    ):
        np.testing.assert_allclose(got(array(mean), "none"), np.full((4, 3), term), rtol=1e-6)
        np.testing.assert_allclose(got(array(mean)), np.full(4, 3 * term), rtol=1e-6)


def test_a_row_of_log_std_that_all_rows_share_is_added_up_once():
    def log_prob(log_std, noise):
        return DiagGaussian(jnp.zeros((1000, 6)), log_std).noise_log_prob(noise)

    # A square and a sum for each of the 6000 entries, a product and a sum for each row.
    cost = jax.jit(log_prob).lower(jnp.zeros(6), jnp.zeros((1000, 6))).compile().cost_analysis()
    assert cost["flops"] <= 2 * 6000 + 2 * 1000


def test_it_is_a_pytree_of_its_two_arrays():
    distribution = DiagGaussian(jnp.zeros((3, 2)), jnp.zeros(2))
    assert [leaf.shape for leaf in jax.tree.leaves(distribution)] == [(3, 2), (3, 2)]
    rebuilt = jax.tree.map(lambda x: x + 1.0, distribution)
    assert isinstance(rebuilt, DiagGaussian)
    np.testing.assert_array_equal(rebuilt.log_std, [[1.0, 1.0]] * 3)
    with pytest.raises(AttributeError):
        rebuilt.log_std = jnp.zeros(2)

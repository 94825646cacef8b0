"""The full-covariance Gaussian against SciPy and against its own parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gaussjax.distributions import DiagGaussian, MultivariateGaussian

RNG = np.random.default_rng(0)
MEAN, LOG_STD = RNG.normal(size=(5, 4)), RNG.uniform(-1, 1, (5, 4))
OFF = RNG.normal(size=(5, 6))


def _one() -> MultivariateGaussian:
    return MultivariateGaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD), jnp.asarray(OFF))


def test_density_and_entropy_are_scipys() -> None:
    with jax.enable_x64(True):
        one, actions = _one(), RNG.normal(size=(5, 4))
        for i, covariance in enumerate(np.asarray(one.covariance())):
            expected = scipy.stats.multivariate_normal(MEAN[i], covariance)
            np.testing.assert_allclose(one.log_prob(jnp.asarray(actions))[i], expected.logpdf(actions[i]), rtol=1e-9)
            np.testing.assert_allclose(one.entropy()[i], expected.entropy(), rtol=1e-9)
            np.testing.assert_allclose(one.stddev()[i], np.sqrt(np.diag(covariance)), rtol=1e-12)
            np.testing.assert_allclose(one.scale_tril()[i], np.linalg.cholesky(covariance), rtol=1e-8, atol=1e-12)


def test_kl_is_the_closed_form_of_covariances() -> None:
    with jax.enable_x64(True):
        one = _one()
        other = MultivariateGaussian(one.loc + 0.3, one.log_std - 0.4, 0.5 * one.off_diagonal)
        for i, divergence in enumerate(one.kl_divergence(other)):
            first, second = (np.asarray(x.covariance())[i] for x in (one, other))
            inverse, shift = np.linalg.inv(second), np.asarray(other.loc - one.loc)[i]
            logs = np.log(np.linalg.det(second) / np.linalg.det(first))
            expected = 0.5 * (np.trace(inverse @ first) + shift @ inverse @ shift - 4 + logs)
            np.testing.assert_allclose(divergence, expected, rtol=1e-8)


def test_without_correlations_it_is_the_diagonal_gaussian() -> None:
    one = MultivariateGaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD), jnp.zeros((5, 6)))
    diagonal = DiagGaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD))
    noise = jnp.asarray(RNG.normal(size=(5, 4)), jnp.float32)
    np.testing.assert_allclose(one.from_noise(noise), diagonal.from_noise(noise), rtol=1e-6)
    for name, argument in (("log_prob", noise), ("noise_log_prob", noise)):
        np.testing.assert_allclose(getattr(one, name)(argument), getattr(diagonal, name)(argument), rtol=1e-5)
    shifted = MultivariateGaussian(one.loc + 0.1, one.log_std - 0.2, one.off_diagonal)
    expected = diagonal.kl_divergence(DiagGaussian(diagonal.loc + 0.1, diagonal.log_std - 0.2))
    np.testing.assert_allclose(one.kl_divergence(shifted), expected, rtol=1e-5)


def test_terms_follow_the_chain_rule() -> None:
    # The first k terms are the joint density of the first k dimensions.
    with jax.enable_x64(True):
        one, actions = _one(), jnp.asarray(RNG.normal(size=(5, 4)))
        terms = one.log_prob(actions, "none")
        for i, covariance in enumerate(np.asarray(one.covariance())):
            for k in (1, 2, 3):
                expected = scipy.stats.multivariate_normal(MEAN[i, :k], covariance[:k, :k]).logpdf(actions[i, :k])
                np.testing.assert_allclose(terms[i, :k].sum(), expected, rtol=1e-9)


def test_samples_have_the_covariance() -> None:
    one = MultivariateGaussian(jnp.zeros(2), jnp.array([0.0, -1.0]), jnp.array([1.5]))
    samples = np.asarray(one.sample(jax.random.key(0), (200_000,)))
    np.testing.assert_allclose(np.cov(samples.T), one.covariance(), rtol=0.02, atol=0.002)


def test_the_number_of_pairs_is_checked() -> None:
    with pytest.raises(ValueError, match="expected a last axis of 3 for 3 dimensions"):
        MultivariateGaussian(jnp.zeros(3), jnp.zeros(3), jnp.zeros(4))

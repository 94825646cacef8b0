"""The full-covariance Gaussian against SciPy and against its own parts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import gaussjax.torch  # noqa: F401 - distributions of tensors
from gaussjax.distributions import DiagGaussian, MultivariateGaussian

RNG = np.random.default_rng(0)
MEAN, LOG_STD = RNG.normal(size=(5, 4)), RNG.uniform(-1, 1, (5, 4))
OFF = RNG.normal(size=(5, 6))


def _one() -> MultivariateGaussian:
    return MultivariateGaussian(jnp.asarray(MEAN), jnp.asarray(LOG_STD), jnp.asarray(OFF))


def test_density_and_entropy_are_scipys() -> None:
    with jax.enable_x64(True):
        one, actions = _one(), RNG.normal(size=(5, 4))
        answers = jax.jit(lambda one: (one.log_prob(actions), one.entropy(), one.stddev(), one.scale_tril()))(one)
        for *answer, covariance, mean, action in zip(
            *answers, np.asarray(one.covariance()), MEAN, actions, strict=True
        ):
            expected = scipy.stats.multivariate_normal(mean, covariance)
            np.testing.assert_allclose(answer[0], expected.logpdf(action), rtol=1e-9)
            np.testing.assert_allclose(answer[1], expected.entropy(), rtol=1e-9)
            np.testing.assert_allclose(answer[2], np.sqrt(np.diag(covariance)), rtol=1e-12)
            np.testing.assert_allclose(answer[3], np.linalg.cholesky(covariance), rtol=1e-8, atol=1e-12)


def test_kl_is_the_closed_form_of_covariances() -> None:
    with jax.enable_x64(True):
        one = _one()
        other = MultivariateGaussian(MEAN + 0.3, LOG_STD - 0.4, 0.5 * OFF)
        covariances = (np.asarray(each.covariance()) for each in (one, other))
        divergences = jax.jit(lambda one, other: one.kl_divergence(other))(one, other)
        for divergence, first, second in zip(divergences, *covariances, strict=True):
            inverse, shift = np.linalg.inv(second), np.full(4, 0.3)
            logs = np.log(np.linalg.det(second) / np.linalg.det(first))
            expected = 0.5 * (np.trace(inverse @ first) + shift @ inverse @ shift - 4 + logs)
            np.testing.assert_allclose(divergence, expected, rtol=1e-8)


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor])
def test_kl_of_very_different_scales_is_infinite_on_one_side_only(array) -> None:
    # With equal correlations the divergence is that of independent dimensions.
    wide, narrow = (
        MultivariateGaussian(*(array(np.full(3, number, np.float32)) for number in (0.0, log_std, 0.5)))
        for log_std in (50.0, -50.0)
    )
    assert wide.kl_divergence(narrow) == math.inf
    np.testing.assert_allclose(narrow.kl_divergence(wide), 3 * (100 - 0.5), rtol=1e-6)


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor])
@pytest.mark.parametrize("far", [math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("log_std", [0.0, -80.0, 20.0, 30.0])
def test_far_actions_have_no_density_and_far_means_diverge(array, far: float, place: int, log_std: float) -> None:
    far_actions, zeros = np.zeros(3, np.float32), np.zeros(3, np.float32)
    far_actions[place] = far
    one, other = (
        MultivariateGaussian(*(array(np.float32(x)) for x in (mean, zeros + log_std, [0.5, 0.0, -0.25])))
        for mean in (zeros, far_actions)
    )
    assert one.log_prob(array(far_actions)) == -math.inf
    terms = one.log_prob(array(far_actions), "none")
    # Dimensions before the far one do not depend on it.
    assert terms[place] == -math.inf
    np.testing.assert_allclose(terms[:place], one.log_prob(array(zeros), "none")[:place])
    assert one.kl_divergence(other) == other.kl_divergence(one) == math.inf


def test_without_correlations_it_is_the_diagonal_gaussian() -> None:
    noise = RNG.normal(size=(5, 4)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def answers(make, mean, log_std):
        one, shifted = make(mean, log_std), make(mean + 0.1, log_std - 0.2)
        return one.from_noise(noise), one.log_prob(noise), one.noise_log_prob(noise), one.kl_divergence(shifted)

    correlated = functools.partial(MultivariateGaussian, off_diagonal=np.zeros((5, 6), np.float32))
    found, expected = (answers(make, *np.float32([MEAN, LOG_STD])) for make in (correlated, DiagGaussian))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_terms_follow_the_chain_rule() -> None:
    # The first k terms are the joint density of the first k dimensions.
    with jax.enable_x64(True):
        one, actions = _one(), jnp.asarray(RNG.normal(size=(5, 4)))
        terms = one.log_prob(actions, "none")
        for i, covariance in enumerate(np.asarray(one.covariance())):
            for k in (1, 2, 3):
                expected = scipy.stats.multivariate_normal(MEAN[i, :k], covariance[:k, :k]).logpdf(actions[i, :k])
                np.testing.assert_allclose(terms[i, :k].sum(), expected, rtol=1e-9)


def test_the_number_of_pairs_is_checked() -> None:
    with pytest.raises(ValueError, match="expected a last axis of 3 for 3 dimensions"):
        MultivariateGaussian(jnp.zeros(3), jnp.zeros(3), jnp.zeros(4))

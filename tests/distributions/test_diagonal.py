"""The diagonal Gaussian against scipy in float64 and mpmath on the exact rounded inputs.

u is the unit roundoff. The error of a log-density is measured against S = z²/2 + |log_std| + 0.92,
the size of its terms: no formula does better where they cancel.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

import gaussjax.torch  # noqa: F401
from gaussjax.distributions import DiagGaussian

U32, U64 = 2.0**-24, 2.0**-53
LOG_STD = np.array([-20.0, -13.7, -5.3, -1.1, -0.01, 0.0, 0.3, 1.0, 2.0])
Z = np.array([-50.0, -7.3, -3.0, -0.4, -1e-3, 0.0, 0.02, 0.9, 2.5, 11.0, 50.0])
MEANS = np.array([0.0, 0.37, -1.9])


def grid(dtype, log_std=LOG_STD):
    """Means, log_stds and actions at about z standard deviations, as exact numbers of the type."""
    mean, log_std, z = (axis.ravel() for axis in np.meshgrid(MEANS, log_std, Z, indexing="ij"))
    actions = mean.astype(dtype) + np.exp(log_std) * z
    return mean.astype(dtype), log_std.astype(dtype), actions.astype(dtype)


def exact(mean, log_std, actions):
    """log-density, its derivatives by mean and log_std, and the sizes of their terms: 60 digits, then float64."""
    rows = []
    with mpmath.workdps(60):
        for m, s, a in zip(mean.tolist(), log_std.tolist(), actions.tolist(), strict=True):
            m, s, a = mpmath.mpf(m), mpmath.mpf(s), mpmath.mpf(a)
            z = (a - m) * mpmath.exp(-s)
            value = -z * z / 2 - s - mpmath.log(2 * mpmath.pi) / 2
            size = z * z / 2 + abs(s) + mpmath.mpf("0.92")
            rows.append([float(x) for x in (value, z * mpmath.exp(-s), z * z - 1, size, z * z + 1)])
    return np.array(rows).T


@pytest.fixture(params=["eager", "jit"])
def compiled(request):
    return jax.jit if request.param == "jit" else lambda function: function


def log_prob(mean, log_std, actions):
    return DiagGaussian(mean, log_std).log_prob(actions, "none")


def test_log_prob_is_within_6u_of_mpmath(compiled):
    inputs = grid(np.float32)
    value, _, _, size, _ = exact(*inputs)
    error = np.abs(np.asarray(compiled(log_prob)(*inputs), np.float64) - value) / size
    assert error.max() <= 6 * U32


@pytest.mark.usefixtures("x64")
def test_log_prob_in_float64_is_within_6u_of_mpmath(compiled):
    inputs = grid(np.float64)
    value, _, _, size, _ = exact(*inputs)
    got = compiled(log_prob)(*inputs)
    assert got.dtype == np.float64
    assert (np.abs(np.asarray(got) - value) / size).max() <= 6 * U64


def test_gradients_of_log_prob_are_within_8u_of_mpmath(compiled):
    inputs = grid(np.float32)
    _, by_mean, by_log_std, _, size = exact(*inputs)
    gradient = jax.grad(lambda mean, log_std, actions: jnp.sum(log_prob(mean, log_std, actions)), argnums=(0, 1))
    got_mean, got_log_std = compiled(gradient)(*inputs)
    relative = np.abs(np.asarray(got_mean, np.float64) - by_mean) / np.where(by_mean == 0.0, 1.0, np.abs(by_mean))
    assert relative.max() <= 8 * U32
    assert (np.abs(np.asarray(got_log_std, np.float64) - by_log_std) / size).max() <= 8 * U32


def test_values_and_gradients_are_finite_at_any_log_std(compiled):
    # Actions at |z| <= 50 of a mean of 0, so that they can be written down at every width.
    log_std, z = (axis.ravel() for axis in np.meshgrid(np.linspace(-60.0, 40.0, 101), Z, indexing="ij"))
    inputs = (np.zeros_like(z, np.float32), log_std.astype(np.float32), (np.exp(log_std) * z).astype(np.float32))
    gradient = jax.grad(lambda *x: jnp.sum(log_prob(*x)), argnums=(0, 1, 2))
    for got in (compiled(log_prob)(*inputs), *compiled(gradient)(*inputs)):
        assert np.all(np.isfinite(got))


def test_the_log_prob_of_noise_is_that_of_the_action_it_makes():
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(200, 3)).astype(np.float32)
    distribution = DiagGaussian(jnp.zeros(3), jnp.array([-20.0, 0.0, 2.0]))
    np.testing.assert_allclose(
        distribution.noise_log_prob(noise), distribution.log_prob(distribution.from_noise(noise)), rtol=2e-6
    )
    expected = scipy.stats.norm.logpdf(noise.astype(np.float64)).sum(-1) + 18.0
    np.testing.assert_allclose(distribution.noise_log_prob(noise), expected, rtol=1e-6)


def test_log_prob_equals_scipys():
    generator = np.random.default_rng(1)
    mean, actions = generator.normal(size=(2, 50, 3)).astype(np.float32)
    log_std = generator.uniform(-2.0, 1.0, (50, 3)).astype(np.float32)
    expected = scipy.stats.norm.logpdf(actions, mean, np.exp(log_std, dtype=np.float64))
    got = DiagGaussian(mean, log_std)
    np.testing.assert_allclose(got.log_prob(actions, "none"), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.log_prob(actions), expected.sum(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", ["log_cdf", "log_survival"])
def test_log_probabilities_of_the_sides_equal_scipys(side):
    actions = np.linspace(-30.0, 30.0, 121, dtype=np.float32)[:, None]
    theirs = scipy.stats.norm.logcdf if side == "log_cdf" else scipy.stats.norm.logsf
    got = getattr(DiagGaussian(np.full((1,), 0.5, np.float32), np.zeros(1, np.float32)), side)(actions)
    # Near a probability of one the logarithm is as small as the roundoff of the probability.
    np.testing.assert_allclose(got, theirs(actions.astype(np.float64), 0.5), rtol=2e-6, atol=U32)


def test_entropy_is_within_2u(compiled):
    log_std = np.linspace(-60.0, 40.0, 997, dtype=np.float32)
    entropy = compiled(lambda log_std: DiagGaussian(jnp.zeros_like(log_std), log_std).entropy("none"))(log_std)
    expected = log_std.astype(np.float64) + 0.5 + 0.5 * np.log(2 * np.pi)
    scale = np.abs(log_std) + 1.42  # the entropy passes through zero, its terms do not
    assert (np.abs(np.asarray(entropy, np.float64) - expected) / scale).max() <= 2 * U32


def test_the_density_integrates_to_one():
    distribution = DiagGaussian(jnp.array([0.3]), jnp.array([-1.2]))
    density = jax.jit(lambda x: jnp.exp(distribution.log_prob(x)))
    total = quad(lambda x: float(density(jnp.array([x], jnp.float32))), -4.0, 4.0, points=[0.3], epsabs=1e-4)[0]
    assert total == pytest.approx(1.0, abs=2e-3)


# KL


def exact_kl(*parameters):
    with mpmath.workdps(60):
        m1, s1, m2, s2 = (mpmath.mpf(float(x)) for x in parameters)
        d = s1 - s2
        return float(((m1 - m2) * mpmath.exp(-s2)) ** 2 / 2 + (mpmath.expm1(2 * d) - 2 * d) / 2)


def kl(m1, s1, m2, s2):
    return DiagGaussian(m1, s1).kl_divergence(DiagGaussian(m2, s2), "none")


@pytest.mark.parametrize(("step", "bar"), [(1e-4, 10), (1e-2, 10), (1.0, 20)], ids=["nearest", "near", "far"])
def test_kl_is_within_a_few_roundoffs_of_mpmath(compiled, step, bar):
    generator = np.random.default_rng(2)
    m1, s1 = generator.uniform(-2.0, 1.0, (2, 400)).astype(np.float32)
    m2, s2 = (x + step * generator.normal(size=400).astype(np.float32) for x in (m1, s1))
    got = np.asarray(compiled(kl)(m1, s1, m2, s2), np.float64)
    expected = np.array([exact_kl(*row) for row in zip(m1, s1, m2, s2, strict=True)])
    assert (np.abs(got - expected) / expected).max() <= bar * U32


def test_kl_is_never_negative_and_zero_only_for_equals():
    generator = np.random.default_rng(3)
    m1, s1 = generator.uniform(-3.0, 2.0, (2, 100_000)).astype(np.float32)
    steps = np.exp(generator.uniform(-18.0, 1.0, 100_000))
    m2, s2 = ((x + steps * generator.normal(size=100_000)).astype(np.float32) for x in (m1, s1))
    assert np.all(np.asarray(kl(m1, s1, m2, s2)) >= 0.0)
    np.testing.assert_array_equal(kl(m1, s1, m1, s1), np.zeros(100_000))


# Form


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


def test_sample_and_log_prob_belong_together():
    distribution = DiagGaussian(jnp.zeros((3, 2)), jnp.array([0.0, 1.0]))
    actions, log_prob = distribution.sample_and_log_prob(jax.random.key(0), (4,))
    assert actions.shape == (4, 3, 2)
    assert log_prob.shape == (4, 3)
    np.testing.assert_array_equal(actions, distribution.sample(jax.random.key(0), (4,)))
    np.testing.assert_allclose(log_prob, distribution.log_prob(actions), rtol=2e-6)


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


def test_an_unknown_reduction_is_refused():
    distribution = DiagGaussian(jnp.zeros((3, 2)), jnp.zeros(2))
    for call in (distribution.entropy, lambda reduction: distribution.log_prob(jnp.zeros((3, 2)), reduction)):
        with pytest.raises(ValueError, match="reduction: expected 'sum', 'mean', 'prod' or 'none', got 'max'"):
            call("max")

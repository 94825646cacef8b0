"""The truncated Gaussian against SciPy and TFP, at its bounds, in far tails, and with open sides."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import gaussjax.torch
from gaussjax.distributions import DiagGaussian, TruncatedGaussian

LOW, HIGH = np.array([-1.0, -np.inf, 0.5, -1.0, -np.inf]), np.array([1.0, 0.3, np.inf, 1.0, np.inf])
MEAN, LOG_STD = np.array([0.3, -0.2, 0.9, 6.0, 0.1]), np.array([2.0, 0.4, -0.5, 0.0, 0.3])


def _truncnorm(mean: np.ndarray, std: np.ndarray) -> scipy.stats.rv_continuous:
    return scipy.stats.truncnorm((LOW - mean) / std, (HIGH - mean) / std, loc=mean, scale=std)


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor], ids=["jax", "torch"])
def test_results_are_those_of_scipy(array) -> None:
    mean, log_std = np.float32(MEAN), np.float32(LOG_STD)
    one, expected = TruncatedGaussian(array(mean), array(log_std), LOW, HIGH), _truncnorm(mean, np.exp(log_std))
    actions = np.float32([-0.4, 0.25, 1.5, 0.99, -2.0])
    found = {
        "logpdf": one.log_prob(array(actions), "none"),
        "logcdf": one.log_cdf(array(actions)),
        "logsf": one.log_survival(array(actions)),
        "cdf": one.cdf(array(actions)),
    }
    for name, value in found.items():
        np.testing.assert_allclose(np.asarray(value), getattr(expected, name)(actions), rtol=1e-5, atol=1e-5)
    for name, value in {"mean": one.mean(), "std": one.stddev(), "median": one.median()}.items():
        np.testing.assert_allclose(np.asarray(value), getattr(expected, name)(), rtol=1e-5, atol=1e-6)
    # SciPy's entropy is NaN with an open side.
    closed = np.isfinite(LOW) & np.isfinite(HIGH)
    with np.errstate(invalid="ignore"):
        entropy = expected.entropy()
    np.testing.assert_allclose(np.asarray(one.entropy("none"))[closed], entropy[closed], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(one.mode()), np.clip(mean, LOW, HIGH).astype(np.float32))


def test_densities_and_their_gradients_are_those_of_tfp() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorflow_probability.substrates.jax import distributions as tfd
    low, high, actions = np.float32([-1.0, -1.0, 0.0]), np.float32([1.0, 2.0, 3.0]), np.float32([0.2, -0.9, 1.0])
    fields = np.float32([0.3, -1.5, 2.0]), np.float32([0.1, -0.5, 0.4])

    def ours(mean, log_std):
        return TruncatedGaussian(mean, log_std, low, high).log_prob(actions)

    def theirs(mean, log_std):
        return tfd.TruncatedNormal(mean, jnp.exp(log_std), low, high).log_prob(actions).sum()

    for one, other in zip(*(jax.value_and_grad(f, (0, 1))(*fields) for f in (ours, theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_dimension_without_bounds_is_normal_and_a_wide_normal_is_uniform() -> None:
    free, normal = TruncatedGaussian(MEAN, LOG_STD, -np.inf, np.inf), DiagGaussian(MEAN, LOG_STD)
    noise = np.float32([-3.0, -1.0, 0.0, 1.0, 3.0])
    for name, arguments in {"from_noise": (noise,), "log_prob": (noise,), "entropy": (), "stddev": ()}.items():
        found, expected = (getattr(each, name)(*arguments) for each in (free, normal))
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(free.mean(), np.float32(MEAN), rtol=1e-6)
    narrow = TruncatedGaussian(jnp.zeros(1), jnp.full(1, 2.0), 1.0, 1.0 + 2.0**-9)
    assert float(narrow.entropy()) == pytest.approx(np.log(2.0**-9), rel=2e-7)


def test_outside_of_the_box_the_density_is_zero_but_a_rounded_bound_counts_as_the_bound() -> None:
    one = TruncatedGaussian(jnp.zeros(2), jnp.zeros(2), -0.1, 0.1)
    scores = one.log_prob(np.float32([[-0.1, 0.1], [-0.1001, 0.0], [0.0, 0.2], [np.inf, 0.0]]), "none")
    np.testing.assert_array_equal(np.isneginf(scores), [[False, False], [True, False], [False, True], [True, False]])
    assert np.all(np.isfinite(one.log_prob(jnp.full(2, 0.1, jnp.bfloat16))))
    gradient = jax.grad(lambda mean: TruncatedGaussian(mean, jnp.zeros(2), -0.1, 0.1).log_prob(np.float32([0.2, 0.0])))
    assert np.all(np.isfinite(gradient(jnp.ones(2))))
    ends = np.float32([[-1.0, 1.0], [-np.inf, np.inf]])
    np.testing.assert_array_equal(one.cdf(ends), [[0.0, 1.0], [0.0, 1.0]])
    summed = jax.grad(lambda mean: jnp.sum(TruncatedGaussian(mean, jnp.zeros(2), -0.1, 0.1).cdf(ends)))
    np.testing.assert_array_equal(summed(jnp.zeros(2)), [0.0, 0.0])


@pytest.mark.parametrize(
    ("mean", "high"), [(8.0, 2.5), (0.0, 2.5), (-8.0, 2.5), (-30.0, 2.5), (2.0, np.inf), (-20.0, np.inf)]
)
@pytest.mark.parametrize("count", [100_000, pytest.param(100_000_000, marks=pytest.mark.slow)], ids=str)
def test_samples_lie_inside_and_have_the_distribution(mean: float, high: float, count: int) -> None:
    chunk = min(count, 10_000_000)
    one = TruncatedGaussian(jnp.full(1, mean), jnp.zeros(1), 0.0, high)
    expected = scipy.stats.truncnorm(-mean, high - mean, loc=mean)
    center, sums = expected.mean(), np.zeros(3)
    draw = jax.jit(lambda key: one.sample(key, (chunk,))[:, 0])
    for seed in range(count // chunk):
        samples = np.asarray(draw(jax.random.key(seed)))
        assert samples.min() >= 0.0
        assert samples.max() <= high
        away = samples.astype(np.float64) - center
        sums += [np.sum(away**power) for power in (1, 2, 4)]
    first, second, fourth = sums / count
    assert abs(first) < 5 * (second / count) ** 0.5
    assert abs(second - expected.var()) < 5 * ((fourth - second**2) / count) ** 0.5
    assert scipy.stats.kstest(samples[:100_000].astype(np.float64), expected.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tails_of_a_narrow_policy_have_finite_logarithms(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        one = TruncatedGaussian(jnp.zeros(1, dtype), jnp.full(1, -20.0, dtype), -np.inf, 1.0)
        for scores in (one.log_cdf(jnp.full(1, -0.25, dtype)), one.log_survival(jnp.full(1, 0.25, dtype))):
            np.testing.assert_allclose(scores, -0.5 * (0.25 * np.exp(20.0)) ** 2, rtol=1e-5)


def test_noise_of_any_size_keeps_its_digits() -> None:
    one = TruncatedGaussian(jnp.zeros(1), jnp.zeros(1), -2.0, np.inf)
    noise = np.float32([[-40.0], [-13.0], [-6.0], [6.0], [13.0], [40.0]])
    actions = np.asarray(one.from_noise(noise))[:, 0]
    # In the open tail the action is the noise but for the mass that is cut off, 2.3% of all.
    expected = scipy.stats.norm.isf(scipy.stats.norm.sf(noise[3:5, 0].astype(float)) * scipy.stats.norm.cdf(2.0))
    np.testing.assert_allclose(actions[3:5], expected, rtol=1e-6)
    assert np.all(actions[:3] >= -2.0)
    assert actions[5] == pytest.approx(40.0, abs=1e-3)


def test_divergence_is_never_negative_and_that_of_the_densities() -> None:
    generator = np.random.default_rng(0)
    mean, log_std = generator.uniform(-11, 11, (100_000, 2)), generator.uniform(-6, 2, (100_000, 2))
    near = 10.0 ** generator.uniform(-9, 0, (2, 100_000, 2))

    @jax.jit
    def divergence(*fields):
        one, other = (TruncatedGaussian(*pair, (-1.0, 0.0), (1.0, np.inf)) for pair in (fields[:2], fields[2:]))
        return one.kl_divergence(other, "none"), one.kl_divergence(one, "none")

    found, same = divergence(mean, log_std, mean + near[0] * np.exp(log_std), log_std + near[1])
    assert np.all(np.asarray(found) >= 0.0)
    assert np.all(np.asarray(same) == 0.0)


def test_wrong_boxes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"low, high: expected low < high, got low \[1\.0\] .* in the dimensions \[1\]"
    ):
        TruncatedGaussian(jnp.zeros(2), jnp.zeros(2), (0.0, 1.0), 1.0)
    one, other = (TruncatedGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, high) for high in (1.0, 2.0))
    with pytest.raises(ValueError, match="other: expected the Box"):
        one.kl_divergence(other)
    with pytest.raises(ValueError, match=r"low < high in float32 .* in the dimensions \[1\]"):
        gaussjax.truncated_gaussian(gaussjax.networks.MLP(), 3, gaussjax.spaces.Box((0.0, 1e8), (1.0, 1e8 + 1), (2,)))

"""The clipped Gaussian against sums over its two probabilities and its density between them."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch

import gaussjax.torch  # noqa: F401
from gaussjax.distributions import CensoredGaussian, DiagGaussian, TruncatedGaussian

LOW, HIGH = np.array([-1.0, -np.inf, 0.5, -1.0]), np.array([1.0, 0.3, np.inf, 1.0])
MEAN, LOG_STD = np.array([0.3, -0.2, 0.9, 6.0]), np.array([2.0, 0.4, -0.5, 0.0])


def _numbers(mean: np.ndarray, log_std: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights, values and log-densities of each dimension: the two bounds, then midpoints between them."""
    rows = []
    for m, s, low, high in zip(mean, np.exp(log_std), LOW, HIGH, strict=True):
        normal = scipy.stats.norm(m, s)
        ends = max(low, m - 12 * s), min(high, m + 12 * s)
        if ends[0] >= ends[1]:
            ends = low, high
        step = (ends[1] - ends[0]) / 200_000
        middles = ends[0] + step * (np.arange(200_000) + 0.5)
        tails = np.array([normal.logcdf(low), normal.logsf(high)])
        values = np.concatenate([np.where(np.isfinite([low, high]), [low, high], 0.0), middles])
        log_density = np.concatenate([tails, normal.logpdf(middles)])
        weights = np.exp(log_density) * np.concatenate([np.ones(2), np.full(200_000, step)])
        rows.append((weights, values, np.where(np.isfinite(log_density), log_density, 0.0)))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def test_entropy_moments_and_divergence_are_those_of_the_mixture() -> None:
    one, other = (CensoredGaussian(MEAN + a, LOG_STD + b, LOW, HIGH) for a, b in ((0.0, 0.0), (0.4, -0.3)))
    weights, values, log_density = _numbers(MEAN, LOG_STD)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(one.entropy("none"), -(weights * log_density).sum(1), atol=1e-5)
    mean = (weights * values).sum(1)
    np.testing.assert_allclose(one.mean(), mean, atol=1e-5)
    np.testing.assert_allclose(one.stddev(), np.sqrt((weights * (values - mean[:, None]) ** 2).sum(1)), atol=1e-5)
    ratio = log_density - _other_log_density(other, values)
    np.testing.assert_allclose(one.kl_divergence(other, "none"), (weights * ratio).sum(1), atol=1e-5)


def _other_log_density(other: CensoredGaussian, values: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        wide = CensoredGaussian(np.float64(other.loc), np.float64(other.log_std), LOW, HIGH)
        found = np.asarray(wide.log_prob(np.float64(values.T), "none")).T.copy()
    for side, bound in enumerate((LOW, HIGH)):
        found[:, side] = np.where(np.isfinite(bound), found[:, side], 0.0)
    return found


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor], ids=["jax", "torch"])
def test_cumulative_probability_jumps_at_the_bounds(array: Callable) -> None:
    one = CensoredGaussian(array(np.float32(MEAN)), array(np.float32(LOG_STD)), LOW, HIGH)
    normal = scipy.stats.norm(np.float32(MEAN), np.exp(np.float32(LOG_STD)))
    for actions in ([-1.1, -5.0, 0.4, -1.5], [-1.0, 0.2, 0.5, 0.9], [0.0, 0.25, 2.0, 0.0], [1.0, 0.3, np.inf, 1.2]):
        actions = np.float32(actions)
        below, above = actions < np.float32(LOW), actions >= np.float32(HIGH)
        probability = np.where(above, 1.0, np.where(below, 0.0, normal.cdf(actions)))
        np.testing.assert_allclose(np.exp(np.asarray(one.log_cdf(array(actions)))), probability, rtol=2e-6)
        survival = np.where(above, 0.0, np.where(below, 1.0, normal.sf(actions)))
        np.testing.assert_allclose(np.exp(np.asarray(one.log_survival(array(actions)))), survival, rtol=2e-6)


def test_actions_of_every_dtype_are_scored_alike() -> None:
    one, clipped = (kind(jnp.zeros(2), jnp.zeros(2), -1.0, 1.0) for kind in (CensoredGaussian, TruncatedGaussian))
    for actions in (np.array([1, -1]), [1, -1], [1.0, -1.0], np.array([1.0, -1.0]), np.float16([1.0, -1.0])):
        np.testing.assert_allclose(one.log_prob(actions), one.log_prob(jnp.array([1.0, -1.0])))
        np.testing.assert_allclose(clipped.log_prob(actions), clipped.log_prob(jnp.array([1.0, -1.0])))


def test_samples_are_scored_by_their_noise_and_their_mean_score_is_the_entropy() -> None:
    one = CensoredGaussian(MEAN, LOG_STD, LOW, HIGH)
    actions, log_prob = jax.jit(lambda key: one.sample_and_log_prob(key, (200_000,), "none"))(jax.random.key(0))
    assert np.all((np.asarray(actions) >= LOW) & (np.asarray(actions) <= HIGH))
    np.testing.assert_allclose(log_prob, one.log_prob(actions, "none"), atol=2e-4)
    np.testing.assert_allclose(-np.mean(log_prob, 0), one.entropy("none"), atol=0.01)


def test_gradients_are_finite_with_open_sides_and_far_tails() -> None:
    mean, log_std = jnp.array([[0.0, 50.0, -50.0, 1.0]]), jnp.array([[-20.0, -3.0, 2.0, 0.0]])

    def total(mean: jax.Array, log_std: jax.Array) -> jax.Array:
        one, other = (CensoredGaussian(mean + shift, log_std + shift, LOW, HIGH) for shift in (0.0, 0.1))
        parts = [one.entropy(), one.mean(), one.median(), one.stddev(), one.kl_divergence(other)]
        parts += [
            one.log_cdf(jnp.array([1.0, 0.2, jnp.inf, -1.0]))[..., :2],
            one.log_survival(jnp.full(4, -0.9))[..., 0],
        ]
        return sum(jnp.sum(part) for part in [*parts, one.log_prob(jnp.array([1.0, 0.3, 0.5, 0.0]))])

    for gradient in jax.jit(jax.grad(total, (0, 1)))(mean, log_std):
        assert np.all(np.isfinite(gradient))


def test_a_side_without_width_has_no_entropy_and_open_sides_have_that_of_the_normal() -> None:
    fixed = CensoredGaussian(jnp.zeros(1), jnp.zeros(1), 0.5, 0.5)
    assert float(fixed.entropy()) == float(fixed.log_prob(jnp.full(1, 0.5))) == 0.0
    free = CensoredGaussian(MEAN, LOG_STD, -np.inf, np.inf)
    np.testing.assert_allclose(free.entropy("none"), DiagGaussian(MEAN, LOG_STD).entropy("none"), rtol=1e-6)


def test_divergence_of_nearly_equal_distributions_is_never_negative() -> None:
    generator = np.random.default_rng(0)
    mean, log_std = generator.normal(size=(100_000, 4)), generator.uniform(-3, 2, (100_000, 4))
    near = 1e-4 * generator.normal(size=(2, 100_000, 4))
    divergence = jax.jit(
        lambda a, b, c, d: CensoredGaussian(a, b, LOW, HIGH).kl_divergence(CensoredGaussian(c, d, LOW, HIGH), "none")
    )(mean, log_std, mean + near[0], log_std + near[1])
    assert np.all(np.asarray(divergence) >= 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        # Only the other distribution reaches the upper bound: in float32 the probability of the first is 0 there.
        (-0.50390625, -2.0, -0.5625, -0.365234375),
        (0.9, -3.0, 0.8, 0.1),
        (-50.0, 3.0, 0.0, -2.3),
        (1e4, 0.0, -1e4, 0.0),
    ],
)
def test_divergence_far_from_the_box_and_of_bounds_that_one_never_reaches(fields: tuple[float, ...]) -> None:
    found = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            mean, log_std, other_mean, other_log_std = (jnp.full(1, number, dtype) for number in fields)
            other = CensoredGaussian(other_mean, other_log_std, -0.5, 1.25)
            found[dtype] = float(CensoredGaussian(mean, log_std, -0.5, 1.25).kl_divergence(other))
    assert found["float32"] == pytest.approx(found["float64"], rel=3e-6)


@pytest.mark.parametrize(
    ("mean", "log_std", "low", "high"),
    # Boxes far below the standard deviation, a narrow one far from zero, a mean on a bound, and a mean beyond it.
    [(1.0, 5.0, -0.125, 0.125), (30.0, 5.0, 1.0, 1.0 + 2.0**-16), (1.0, -12.0, -1.0, 1.0), (-30.0, 1.0, 0.0, math.inf)],
)
def test_moments_keep_their_digits_in_any_box(mean: float, log_std: float, low: float, high: float) -> None:
    def expected(fields: np.ndarray) -> np.ndarray:
        normal = scipy.stats.norm(fields[0], np.exp(fields[1]))
        near = np.clip(normal.mean() + normal.std() * np.array([-12.0, 12.0]), low, min(high, 9.0))
        middles, step = np.linspace(*near, 200_001)[1:] - (near[1] - near[0]) / 4e5, (near[1] - near[0]) / 2e5
        weights = np.append(step * normal.pdf(middles), [normal.cdf(low), normal.sf(high)])
        # Distances from the median have more digits than the values.
        away = np.append(middles, [low, min(high, 9.0)]) - median
        center = weights @ away
        return np.array([center, np.sqrt(weights @ (away - center) ** 2)])

    def found(fields: jax.Array) -> jax.Array:
        one = CensoredGaussian(fields[:1], fields[1:], low, high)
        return jnp.concatenate([one.mean() - median, one.stddev()])

    fields, median, unit = np.array([mean, log_std]), np.clip(mean, low, high), min(high - low, 1.0)
    values, slopes = found(jnp.float32(fields)), jax.jacobian(found)(jnp.float32(fields))
    np.testing.assert_allclose(values, expected(fields), rtol=2e-5, atol=1e-7)
    steps = np.diag([1e-4 * np.exp(log_std), 1e-4])
    differences = [(expected(fields + step) - expected(fields - step)) / (2.0 * step.sum()) for step in steps]
    np.testing.assert_allclose(slopes, np.transpose(differences), rtol=1e-4, atol=1e-6 * unit)


@pytest.mark.parametrize("sides", [(1.0, -1.0), (math.nan, 1.0), (0.0, math.nan), (math.inf, math.inf)])
def test_bounds_without_a_number_between_them_are_refused(sides: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"low, high: expected low <= high .* in the dimensions \[1\]"):
        CensoredGaussian(jnp.zeros(2), jnp.zeros(2), (-1.0, sides[0]), (1.0, sides[1]))


def test_another_box_is_refused() -> None:
    one, other = (CensoredGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, high) for high in (1.0, 2.0))
    with pytest.raises(ValueError, match="other: expected the Box"):
        one.kl_divergence(other)
    with pytest.raises(NotImplementedError, match="mode"):
        one.mode()

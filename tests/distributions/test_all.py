"""What holds for every distribution: shapes, sampling, densities, entropies, divergences."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.distributions import DiagGaussian, Distribution, MultivariateGaussian, TanhGaussian, TruncatedGaussian
from tests.numerics.modes import EAGER_AND_JIT

MEAN = jnp.array([0.3, -0.8], jnp.float32)
LOG_STD = jnp.array([-0.4, 0.2], jnp.float32)
LOW, HIGH = (-2.0, 0.0), (2.0, 3.0)


def _diagonal(mean: Any, log_std: Any, _: Any) -> Distribution:
    return DiagGaussian(mean, log_std)


def _squashed(mean: Any, log_std: Any, _: Any) -> Distribution:
    return TanhGaussian(mean, log_std, LOW, HIGH)


def _truncated(mean: Any, log_std: Any, _: Any) -> Distribution:
    return TruncatedGaussian(mean, log_std, LOW, HIGH)


KINDS = {
    "diagonal": _diagonal,
    "squashed": _squashed,
    "truncated": _truncated,
    "multivariate": MultivariateGaussian,
}
Make = Callable[..., Distribution]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    return KINDS[request.param]


@pytest.fixture
def one(make: Make) -> Distribution:
    return make(MEAN, LOG_STD, jnp.array([0.7]))


@jax.jit
def _summary(one: Distribution) -> dict[str, jax.Array]:
    """What a distribution says of itself, in one program."""
    return {name: getattr(one, name)() for name in ("entropy", "mean", "median", "mode", "stddev")}


_log_prob = jax.jit(lambda one, actions: one.log_prob(actions))
_draw = jax.jit(lambda one, key, count: one.sample_and_log_prob(key, (count,)), static_argnums=2)


def _grid(one: Distribution) -> tuple[np.ndarray, float]:
    # Midpoints of a fine grid over all but a negligible part of the mass, and a cell's area.
    if isinstance(one, (TanhGaussian, TruncatedGaussian)):
        low, high = np.array(LOW), np.array(HIGH)
    else:
        mean, reach = np.asarray(_summary(one)["mean"]), 8 * np.asarray(_summary(one)["stddev"])
        low, high = mean - reach, mean + reach
    sides = [a + (b - a) * (np.arange(600) + 0.5) / 600 for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
    return points.astype(np.float32), float(np.prod((high - low) / 600))


def test_density_integrates_to_one(one: Distribution) -> None:
    points, area = _grid(one)
    total = float(np.sum(np.exp(_log_prob(one, points)))) * area
    assert total == pytest.approx(1.0, abs=2e-3)


def test_wide_and_narrow_squashed_densities_integrate_to_one() -> None:
    # Over u, where the density is smooth however high it rises towards the edge of the Box.
    @jax.jit
    def density(log_std: jax.Array, u: jax.Array) -> jax.Array:
        one = TanhGaussian(jnp.full((1,), 0.4), jnp.full((1,), log_std), -2.0, 3.0)
        return jnp.exp(one.log_prob(one.squash(u), raw_actions=u)) * 2.5 / jnp.square(jnp.cosh(u[:, 0]))

    for log_std in (-1.5, 0.0, 1.0):
        u = 0.4 + np.exp(log_std) * np.linspace(-8.0, 8.0, 8001)[:, None]
        assert np.trapezoid(density(log_std, np.float32(u)), u[:, 0]) == pytest.approx(1.0, abs=2e-3)


def test_entropy_and_moments_are_those_of_the_density(one: Distribution) -> None:
    points, area = _grid(one)
    log_prob, facts = np.asarray(_log_prob(one, points), np.float64), _summary(one)
    weight = np.exp(log_prob) * area
    mean = weight @ points
    np.testing.assert_allclose(facts["entropy"], -weight @ log_prob, atol=2e-3)
    np.testing.assert_allclose(facts["mean"], mean, atol=2e-3)
    np.testing.assert_allclose(facts["stddev"], np.sqrt(weight @ (points - mean) ** 2), atol=2e-3)
    # The most likely point of the grid is within a cell of the mode.
    cell = points[:: 600 + 1][1] - points[0]
    assert np.all(np.abs(points[np.argmax(log_prob)] - np.asarray(facts["mode"])) <= cell)


def test_samples_have_the_distributions_moments_and_entropy(one: Distribution) -> None:
    count = 200_000
    samples, log_prob = map(np.asarray, _draw(one, jax.random.key(0), count))
    facts = jax.tree.map(np.asarray, _summary(one))
    # Five standard errors of each estimate.
    np.testing.assert_allclose(samples.mean(0), facts["mean"], atol=5 * float(facts["stddev"].max()) / count**0.5)
    np.testing.assert_allclose(samples.std(0), facts["stddev"], rtol=0.02)
    np.testing.assert_allclose(np.mean(samples <= facts["median"][None], 0), 0.5, atol=2.5 / count**0.5)
    np.testing.assert_allclose(-log_prob.mean(), facts["entropy"], atol=5 * float(log_prob.std()) / count**0.5)


def test_kl_is_the_mean_log_ratio_of_samples(make: Make) -> None:
    one, other = make(MEAN, LOG_STD, jnp.array([0.7])), make(MEAN + 0.3, LOG_STD - 0.2, jnp.array([0.1]))
    samples, log_prob = _draw(one, jax.random.key(1), 200_000)
    ratio = np.asarray(log_prob) - np.asarray(_log_prob(other, samples))
    divergence = jax.jit(lambda one, other: one.kl_divergence(other))(one, other)
    np.testing.assert_allclose(ratio.mean(), divergence, atol=5 * float(ratio.std()) / 200_000**0.5)


def test_shapes_follow_the_arrays(make: Make) -> None:
    one = make(jnp.zeros((5, 4, 2)), jnp.zeros(2), jnp.zeros(1))
    key = jax.random.key(0)
    assert one.batch_shape == (5, 4)
    assert one.event_shape == (2,)

    def shape(function: Callable, *arguments: Any) -> tuple[int, ...]:
        return jax.eval_shape(function, *arguments).shape

    assert shape(one.sample, key) == (5, 4, 2)
    assert shape(lambda key: one.sample(key, (3,)), key) == (3, 5, 4, 2)
    assert shape(lambda key: one.sample_and_log_prob(key, (3,))[1], key) == (3, 5, 4)
    actions = jnp.zeros((3, 5, 4, 2))
    assert shape(one.log_prob, actions) == (3, 5, 4)
    assert shape(lambda actions: one.log_prob(actions, "none"), actions) == (3, 5, 4, 2)
    assert shape(one.entropy) == shape(one.kl_divergence, one) == (5, 4)
    for name in ("mean", "median", "mode", "stddev"):
        assert shape(getattr(one, name)) == (5, 4, 2)


def test_terms_of_the_dimensions_sum_to_the_joint(one: Distribution) -> None:
    @functools.partial(jax.jit, static_argnums=1)
    def log_prob_and_entropy(one: Distribution, reduction: str) -> tuple[jax.Array, jax.Array]:
        return one.log_prob(one.sample(jax.random.key(0), (7,)), reduction), one.entropy(reduction)

    for terms, total in zip(*(log_prob_and_entropy(one, each) for each in ("none", "sum")), strict=True):
        np.testing.assert_allclose(np.asarray(terms).sum(-1), total, rtol=1e-6)


def test_it_passes_through_jit_vmap_and_scan(make: Make) -> None:
    means, actions = jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), jnp.full((3, 2), 0.1)

    def scores(one: Distribution, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return one.log_prob(actions), one.entropy()

    batch = jax.vmap(lambda mean: make(mean, LOG_STD, jnp.array([0.7])))(means)
    whole, inside = (jax.jit(run)(batch, actions) for run in (scores, jax.vmap(scores)))
    _, scanned = jax.lax.scan(lambda _, both: (None, scores(*both)), None, (batch, actions))
    for found in (whole, scanned):
        np.testing.assert_allclose(found, inside, rtol=1e-6)
    assert jax.tree.structure(batch) == jax.tree.structure(make(MEAN, LOG_STD, jnp.array([0.7])))


def test_same_key_gives_the_same_bits(one: Distribution) -> None:
    draw = jax.jit(lambda one, key: one.sample(key, (3,)))
    first = draw(one, jax.random.key(7))
    np.testing.assert_array_equal(first, draw(one, jax.random.key(7)))
    np.testing.assert_array_equal(first, draw(one, jax.random.PRNGKey(7)))


def test_gradients_are_finite_where_policies_live(make: Make) -> None:
    log_std = jnp.linspace(-20.0, 2.0, 23)[:, None] * jnp.ones((1, 2))
    mean = jnp.linspace(-40.0, 40.0, 23)[:, None] * jnp.ones((1, 2))

    def total(mean: jax.Array, log_std: jax.Array, off: jax.Array) -> jax.Array:
        one = make(mean, log_std, off)
        other = make(mean + 0.1 * jnp.exp(log_std), log_std + 0.1, off)
        parts = [one.entropy(), one.kl_divergence(other), one.mean(), one.median(), one.mode(), one.stddev()]
        actions, log_prob = one.sample_and_log_prob(jax.random.key(0))
        return sum(jnp.sum(part) for part in [*parts, actions, log_prob])

    gradients = jax.jit(jax.grad(total, (0, 1, 2)))(mean, log_std, jnp.full((23, 1), 0.5))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_a_divergence_from_another_family_is_refused(one: Distribution) -> None:
    for other in KINDS.values():
        other = other(MEAN, LOG_STD, jnp.array([0.7]))
        if type(other) is not type(one):
            with pytest.raises(TypeError, match=f"expected a {type(one).__name__}"):
                one.kl_divergence(other)


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
def test_kl_is_a_divergence(make: Make, compiled: bool) -> None:
    # 50,000 pairs that differ by 1e-9 to 0.1, and as many that lie far apart.
    rng, count = np.random.default_rng(0), 50_000
    log_std, mean = rng.uniform(-20, 2, (count, 2)), rng.normal(size=(count, 2))
    near = 10.0 ** rng.uniform(-9, -1, (2, count, 2)) * rng.choice([-1, 1], (2, count, 2))
    apart = np.concatenate([near, rng.uniform(-5, 5, (2, count, 2))], axis=1)
    mean, log_std, off = np.tile(mean, (2, 1)), np.tile(log_std, (2, 1)), rng.normal(size=(2 * count, 1))
    other = mean + np.exp(log_std) * apart[0], np.clip(log_std + apart[1], -20, 2), off + apart[1][:, :1]

    def divergences(first: tuple, second: tuple) -> tuple[jax.Array, jax.Array]:
        one = make(*first)
        return one.kl_divergence(make(*second), "none"), one.kl_divergence(make(*first), "none")

    first, second = jax.tree.map(np.float32, ((mean, log_std, off), other))
    between, within = map(np.asarray, (jax.jit(divergences) if compiled else divergences)(first, second))
    assert np.all((between >= 0.0) & np.isfinite(between))
    assert np.all(within == 0.0)


def test_scoring_a_sample_gives_its_sampled_score(make: Make) -> None:
    rng, count = np.random.default_rng(0), 20_000
    mean, log_std, noise = (np.float32(rng.uniform(*ends, (count, 2))) for ends in ((-1, 1), (-3, 0), (-3, 3)))

    @jax.jit
    def scores(mean: jax.Array, log_std: jax.Array, off: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        one = make(mean, log_std, off)
        return one.noise_log_prob(noise), one.log_prob(one.from_noise(noise))

    exact, scored = scores(mean, log_std, np.float32(rng.uniform(-1, 1, (count, 1))), noise)
    # The action is rounded at 2⁻²⁴ of the Box, which e^3 and the slope of the inverse of tanh
    # (u reaches 4, so 1/(1 - tanh²) reaches 745) multiply.
    np.testing.assert_allclose(scored, exact, rtol=0, atol=2e-2 if make is _squashed else 1e-4)

"""The squashed Gaussian: its centre, its peaks, its Box."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax.torch  # noqa: F401
from gaussjax.distributions import TanhGaussian
from gaussjax.distributions.squashed import raw_mode


def _one(mean: float, std: float) -> TanhGaussian:
    return TanhGaussian(np.full((1,), mean, np.float32), np.full((1,), math.log(std), np.float32), -1.0, 1.0)


_raw_mode = jax.jit(raw_mode)
_centres = jax.jit(lambda one: (one.median(), one.mean(), one.mode()))


def test_the_mode_has_the_highest_density() -> None:
    means, stds = np.meshgrid([-2.0, -0.5, -1e-3, 0.0, 1e-4, 0.3, 1.0, 4.0], [0.01, 0.3, 0.7, 0.75, 1.0, 2.0, 5.0])
    mean, std = (np.float32(x.ravel()[:, None]) for x in (means, stds))
    one = TanhGaussian(mean, np.log(std), -1.0, 1.0)

    @jax.jit
    def score(u: jax.Array) -> jax.Array:
        return one.log_prob(u, raw_actions=u)

    # Every u within eight standard deviations of the mean, and beyond where tanh pulls it to.
    u = np.linspace(-1.0, 1.0, 20001, dtype=np.float32)[:, None, None] * (8 * std + 2 * std**2)[None] + mean[None]
    best = np.asarray(score(u)).max(0)
    assert np.all(score(_raw_mode(mean, np.log(std))) >= best - 1e-5 * np.maximum(1.0, np.abs(best)))


def test_two_equal_peaks_give_the_upper_one_and_its_mirror_for_a_mirrored_mean() -> None:
    # At a mean of 0 and a standard deviation of 1 the peaks solve u = 2 tanh(u): u = ±1.91500805.
    np.testing.assert_allclose(_raw_mode(np.zeros(1, np.float32), np.zeros(1, np.float32)), [1.915008048], rtol=1e-6)
    above, below = (np.asarray(_centres(_one(mean, 1.5))[2]) for mean in (0.2, -0.2))
    assert float(above[0]) > 0.9
    np.testing.assert_array_equal(below, -above)


def test_one_peak_below_the_critical_width_lies_at_the_mean_of_zero() -> None:
    np.testing.assert_allclose(_centres(_one(0.0, 0.7))[2], [0.0], atol=2e-3)


def test_the_modes_gradient_is_that_of_differences() -> None:
    with jax.enable_x64(True):
        point, step = (np.array([0.5, -1.0, 0.1, 2.0]), np.log([0.3, 1.0, 1.2, 0.6])), 1e-6
        gradients = jax.jit(jax.grad(lambda *x: raw_mode(*x).sum(), (0, 1)))(*point)
        for i, gradient in enumerate(gradients):
            up, down = ([x + (step if j == i else 0.0) * s for j, x in enumerate(point)] for s in (1.0, -1.0))
            np.testing.assert_allclose(gradient, (_raw_mode(*up) - _raw_mode(*down)) / (2 * step), rtol=1e-5)


def test_median_mean_and_mode_are_three_different_actions() -> None:
    median, mean, mode = (float(x[0]) for x in _centres(_one(0.5, 1.0)))
    assert median == pytest.approx(math.tanh(0.5), rel=1e-6)
    assert mean < median < mode


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.3), (-1e-3, 7.0), (100.0, 101.0), (-0.4, 0.4)])
def test_actions_never_leave_the_box(low: float, high: float) -> None:
    actions = TanhGaussian(jnp.zeros(1), jnp.zeros(1), low, high).squash(
        np.float32(np.linspace(-30, 30, 10001)[:, None])
    )
    # The bounds are reached, up to the last float32 numbers within them.
    assert low <= float(actions.min()) < np.nextafter(np.nextafter(np.float32(low), np.inf), np.inf)
    assert high >= float(actions.max()) > np.nextafter(np.nextafter(np.float32(high), -np.inf), -np.inf)


def test_raw_actions_are_recovered_within_the_box() -> None:
    one = TanhGaussian(jnp.zeros(1), jnp.zeros(1), -2.0, 3.0)
    raw = jnp.linspace(-4.0, 4.0, 1001)[:, None]
    # tanh is within 5 roundoffs, the action, near 3, is rounded by 2⁻²³: together 6 roundoffs of
    # tanh, which the slope of its inverse, cosh², multiplies.
    np.testing.assert_allclose(one.unsquash(one.squash(raw)), raw, atol=2.0**-24 * 6 * math.cosh(4) ** 2)


def test_kl_to_another_box_is_refused_also_under_jit() -> None:
    one, other = (TanhGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, high) for high in (1.0, 2.0))
    with pytest.raises(ValueError, match=r"expected the Box \(-1.0,\) to \(1.0,\), got \(-1.0,\) to \(2.0,\)"):
        jax.jit(lambda a, b: a.kl_divergence(b))(one, other)


def test_open_dimensions_are_named() -> None:
    with pytest.raises(ValueError, match=r"in the dimensions \[1, 2\]"):
        TanhGaussian(jnp.zeros(3), jnp.zeros(3), [-1.0, -np.inf, 2.0], [1.0, 1.0, 2.0])


@pytest.mark.without("jax_disable_jit")
def test_a_box_that_is_known_only_at_run_time_is_refused() -> None:
    with pytest.raises(TypeError, match="low, high: expected a constant, got a traced array in a Box"):
        jax.jit(lambda high: TanhGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, high).mean())(jnp.ones(1))


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_squash_and_unsquash_are_float32_at_the_least(dtype):
    distribution = TanhGaussian(jnp.zeros(2), jnp.zeros(2), -1.0, 1.0)
    ends = jnp.array([1, 0], dtype)
    for function in (distribution.squash, distribution.unsquash):
        found = function(ends)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, function(ends.astype(jnp.float32)))


def test_the_mode_where_three_roots_merge_is_the_middle_one_in_float64() -> None:
    with jax.enable_x64(True):
        assert abs(float(raw_mode(jnp.zeros(()), jnp.log(jnp.sqrt(0.5))))) < 1e-6


@pytest.mark.parametrize("std", [0.7, 1.1])
def test_gradients_of_the_entropy_are_whole_at_each_seam(std: float) -> None:
    """Their finite differences agree on both sides, and derivatives of `minimum` at a tie would be halves."""
    with jax.enable_x64(True):
        log_std, step = jnp.log(jnp.float64(std)), 1e-5
        entropy = jax.jit(lambda s: TanhGaussian(jnp.full(1, 0.4), s[None], -1.0, 1.0).entropy())
        slope = jax.jit(jax.grad(lambda s: TanhGaussian(jnp.full(1, 0.4), s[None], -1.0, 1.0).entropy()))
        for point in (log_std, jnp.nextafter(log_std, -9.0), jnp.nextafter(log_std, 9.0)):
            expected = (entropy(point + step) - entropy(point - step)) / (2 * step)
            np.testing.assert_allclose(slope(point), expected, rtol=1e-6)
            curvature = (slope(point + step) - slope(point - step)) / (2 * step)
            np.testing.assert_allclose(jax.grad(slope)(point), curvature, rtol=1e-4)


def test_the_gradient_of_a_score_one_step_within_a_bound_is_that_of_its_neighbours() -> None:
    one = TanhGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, 1.0)
    slope = jax.grad(lambda a: one.unsquash(a)[0])
    edge = np.float32(1.0)
    near = [float(slope(jnp.full(1, edge := np.nextafter(edge, np.float32(0))))[0]) for _ in range(4)]
    # du/da is 1 / (1 - a²), which doubles where the distance from the bound halves.
    distances = np.arange(1, 5) * 2.0**-24
    np.testing.assert_allclose(near, 1.0 / (distances * (2.0 - distances)), rtol=1e-3)


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_a_score_at_a_bound_is_that_of_float32_unless_the_policy_and_the_action_are_float64(library: str) -> None:
    scores = []
    with jax.enable_x64(True):
        for loc in (np.float32, np.float64):
            for actions in (np.int32, np.float32, np.float64):
                array = jnp.asarray if library == "jax" else torch.from_numpy
                one = TanhGaussian(*(array(np.zeros(1, loc)) for _ in range(2)), -1.0, 1.0)
                scores.append(float(one.log_prob(array(np.ones(1, actions)))))
    gap = 2.0**-24
    volume = math.log(gap * (2.0 - gap))
    expected = -0.5 * math.atanh(1.0 - gap) ** 2 - 0.5 * math.log(2.0 * math.pi) - volume
    np.testing.assert_allclose(scores[:-1], expected, rtol=1e-6)
    assert scores[-1] < -100.0


def test_squashed_actions_have_a_gradient_where_tanh_has_rounded_to_one() -> None:
    one = TanhGaussian(jnp.zeros(1), jnp.zeros(1), -1.0, 1.0)
    slopes = [float(jax.grad(lambda u: one.squash(u)[0])(jnp.full(1, u))[0]) for u in (5.0, 10.0, 20.0)]
    np.testing.assert_allclose(slopes, 1.0 / np.cosh([5.0, 10.0, 20.0]) ** 2, rtol=1e-5)

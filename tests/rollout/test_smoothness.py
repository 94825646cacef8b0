"""Smoothness of actions: hand-derived values of known signals, and equality on the host and compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, exploration, rollout
from gaussjax.rollout import smoothness
from gaussjax.spaces import Box
from tests.training import jax_probes, probes

TIMES = np.arange(256)
SIGNALS = {
    "constant": (np.full(256, 0.1, np.float32), 0.0, 0.0),
    "alternating": ((-1.0) ** TIMES, 2.0, 1.0),
    # The mean of |cos| over whole periods is that of the samples; 8 and 100 periods in 256 steps.
    "slow sine": (np.sin(2 * np.pi * 8 * TIMES / 256), None, 0.0),
    "fast sine": (np.sin(2 * np.pi * 100 * TIMES / 256), None, 1.0),
    # A period of exactly 4 steps is not above half the Nyquist rate; its changes are all 1.
    "period of 4": (np.sin(2 * np.pi * TIMES / 4), 1.0, 0.0),
    "both sines": (np.sin(2 * np.pi * 8 * TIMES / 256) + np.sin(2 * np.pi * 100 * TIMES / 256), None, 0.5),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_known_signals(name):
    signal, change, fast = SIGNALS[name]
    change = np.abs(np.diff(signal)).mean() if change is None else change
    found = smoothness(signal[:, None, None], [256], Box(-4.0, 4.0, (1,)))
    np.testing.assert_allclose(found, (change, change / 4.0, fast), atol=1e-12)


def test_white_noise_has_half_of_its_variance_above_half_the_nyquist_rate():
    noise = np.random.default_rng(0).normal(size=(1000, 20, 4))
    found = smoothness(noise, [1000] * 20)
    # The mean of |x - y| of two standard normal numbers is 2/√π.
    np.testing.assert_allclose(found.change, 2.0 / np.sqrt(np.pi), rtol=0.01)
    np.testing.assert_allclose(found.fast_share, 0.5, atol=0.01)
    assert np.isnan(found.relative_change)


def test_only_the_steps_of_an_episode_count_and_components_count_in_half_widths():
    actions = np.full((10, 3, 2), 50.0)
    actions[:4, 0, 0], actions[:4, 0, 1] = (0.0, 1.0, 0.0, 1.0), 3.0
    actions[:1, 1] = 7.0
    # Five changes each of 1 and 0, and of an episode with two equal actions.
    actions[:3, 2] = 0.0
    found = smoothness(actions, [4, 1, 3], Box(np.array([-1.0, -10.0]), np.array([1.0, 10.0])))
    np.testing.assert_allclose(found, (0.3, 0.3, 1.0 / 1.5 * 0.5 * 2.0), atol=0.4)
    assert found.change == pytest.approx((3 * 1.0 + 2 * 0.0) / 5 / 2)
    assert found.relative_change == pytest.approx(found.change)
    assert smoothness(actions, [1, 1, 0]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("shape", "lengths"), [((4, 2), [4, 4]), ((4, 2, 1), [4]), ((4, 2, 1), [4, 5])])
def test_arguments_of_other_shapes_are_refused(shape, lengths):
    with pytest.raises(ValueError, match=r"^(actions|lengths): expected"):
        smoothness(np.zeros(shape), lengths)


@pytest.mark.slow
def test_evaluations_on_the_host_and_compiled_measure_the_actions_of_their_environments():
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,), initial_log_std=-1.0), 1, jax_probes.UNIT, clip_actions=True)
    params, source = policy.init(jax.random.key(0)), exploration.held(policy, 4)
    with probes.registered(lambda: probes.Counter(12)) as name:
        found = {
            (place, kind): rollout.evaluate(policy, params, environment, episodes=64, **options).smoothness
            for place, environment in (("host", name), ("compiled", jax_probes.counter(12)))
            for kind, options in {
                "deterministic": {},
                "white": {"deterministic": False},
                "held": {"deterministic": False, "exploration": source},
            }.items()
        }
    actions = policy.act(params, None, jnp.arange(12.0)[:, None], deterministic=True).actions
    expected = smoothness(np.asarray(actions)[:, None], [12], jax_probes.UNIT)
    for place in ("host", "compiled"):
        np.testing.assert_allclose(found[place, "deterministic"], expected, atol=1e-6)
        assert found[place, "held"].change < 0.5 * found[place, "white"].change
        assert found[place, "held"].fast_share < 0.5 * found[place, "white"].fast_share
    np.testing.assert_allclose(found["host", "white"], found["compiled", "white"], rtol=0.2)


@pytest.mark.slow
def test_evaluate_records_no_more_than_the_first_thousand_steps():
    environment = jax_probes.counter(1500)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 1, jax_probes.UNIT)
    found = rollout.evaluate(policy, policy.init(jax.random.key(0)), environment, episodes=2)
    assert found.lengths == [1500, 1500]
    assert isinstance(environment, envs.Environment)
    assert found.smoothness is not None
    assert np.isfinite(found.smoothness).all()

"""The gaussian policy, option by option, against numbers derived by hand.

The network of these tests is its parameters: they are the mean and the log_std. Throughout,
c = ½·log 2π = 0.9189385 and log 2 = 0.6931472. Unless said otherwise the mean is (0.5, -1), the
std (1, 2) and the noise (1, -1), so the raw action is (0.5 + 1·1, -1 - 2·1) = (1.5, -3), and the
log-densities of the two dimensions are
    -½·1² - 0     - c = -1.4189385
    -½·1² - log 2 - c = -2.1120857
"""

import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import gaussjax
from gaussjax.spaces import Box

UNIT = Box(-1.0, 1.0, (2,))
PARAMS = {"mean": np.array([0.5, -1.0], np.float32), "log_std": np.array([0.0, np.log(2.0)], np.float32)}
NOISE = np.array([1.0, -1.0], np.float32)
OBSERVATION = np.zeros(1, np.float32)


class Given(NamedTuple):
    """Mean and log_std are the parameters themselves."""

    width: int = 2

    def init(self, key, observations):
        return {"mean": jnp.zeros(self.width), "log_std": jnp.zeros(self.width)}

    def apply(self, params, observations):
        return jnp.broadcast_to(params["mean"], (*observations.shape[:-1], self.width)), params["log_std"], {}


class Observed:
    """A state-dependent std: the observation is the log_std, the mean is zero."""

    def init(self, key, observations):
        return {}

    def apply(self, params, observations):
        return jnp.zeros_like(observations), observations, {}


@functools.cache
def gaussian(action_space=UNIT, **options):
    """The policy with these options: made, and so compiled, once."""
    return gaussjax.gaussian(Given(gaussjax.spaces.size(action_space)), 1, action_space, **options)


def act(policy, params=PARAMS, noise=NOISE, **arguments):
    noise = None if arguments.get("deterministic") else noise
    return policy.act(params, None, OBSERVATION, noise=noise, **arguments)


def close(got, expected):
    np.testing.assert_allclose(got, np.asarray(expected, np.float32), rtol=2e-6, atol=1e-6)


def test_the_defaults_are_the_documented_ones():
    assert dict(gaussian().spec.options) == {
        "clip_actions": False,
        "clip_mean_actions": False,
        "clip_log_std": True,
        "min_log_std": -20.0,
        "max_log_std": 2.0,
        "reduction": "sum",
        "clipped_log_prob": "density",
        "keepdims": True,
    }


def test_by_default_actions_may_leave_the_box_and_there_is_no_carry():
    result = act(gaussian())
    close(result.actions, [1.5, -3.0])
    close(result.outputs["raw_actions"], [1.5, -3.0])
    close(result.outputs["mean_actions"], [0.5, -1.0])
    assert gaussian().initial_carry() == gaussian().initial_carry((4,)) == ()


@pytest.mark.parametrize(
    ("reduction", "log_prob", "entropy"),
    [
        # A normal has the entropy log_std + ½ + c, which at z = ±1 is minus the log-density.
        ("sum", [-3.5310242], [3.5310242]),  # -1.4189385 - 2.1120857
        ("mean", [-1.7655121], [1.7655121]),  # half of that
        ("prod", [2.9969198], [2.9969198]),  # 1.4189385 · 2.1120857: a product of logarithms, kept for compatibility
        ("none", [-1.4189385, -2.1120857], [1.4189385, 2.1120857]),
    ],
)
def test_reduction_of_log_prob(reduction, log_prob, entropy):
    policy, taken_actions = gaussian(reduction=reduction), np.array([1.5, -3.0], np.float32)
    result, scored = jax.jit(lambda p: (act(policy, p), policy.evaluate(p, OBSERVATION, taken_actions)))(PARAMS)
    close(result.log_prob, log_prob)
    close(scored.log_prob, log_prob)
    close(scored.entropy, entropy)


@pytest.mark.parametrize(
    ("clipped_log_prob", "expected"),
    [
        # Of the clipped action (1, -1) under the normal, z = (0.5, 0):
        # -½·0.5² - c = -1.0439385 and -log 2 - c = -1.6120857.
        ("density", [-1.0439385, -1.6120857]),
        # Of the sample before the clip.
        ("unclipped", [-1.4189385, -2.1120857]),
        # Of the side that ends on the bound: log Φ(-0.5) = log 0.3085375 and log Φ(0) = log ½.
        ("censored", [-1.1759118, -0.6931472]),
    ],
)
def test_clip_actions_to_a_full_box(clipped_log_prob, expected):
    policy = gaussian(clip_actions=True, clipped_log_prob=clipped_log_prob, reduction="none")
    result = act(policy)
    close(result.actions, [1.0, -1.0])
    close(result.outputs["raw_actions"], [1.5, -3.0])
    close(result.log_prob, expected)


@pytest.mark.parametrize("clipped_log_prob", ["density", "unclipped", "censored"])
def test_within_wide_and_open_bounds_clipping_changes_nothing(clipped_log_prob):
    box = Box((-5.0, -np.inf), (5.0, np.inf), (2,))
    result = act(gaussian(box, clip_actions=True, clip_mean_actions=True, clipped_log_prob=clipped_log_prob))
    close(result.actions, [1.5, -3.0])
    close(result.log_prob, [-3.5310242])


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ((1.0, -1.0), (1.0, -1.0)),  # raw (1.5, -3): both beyond the closed side
        ((-5.0, 5.0), (-4.5, 9.0)),  # raw (-4.5, 9): both on the open side
        ((1.0, 5.0), (1.0, 9.0)),  # each dimension on its own
    ],
)
def test_clip_actions_to_a_half_open_box(noise, expected):
    box = Box((-np.inf, -1.0), (1.0, np.inf), (2,))
    close(act(gaussian(box, clip_actions=True), noise=np.array(noise, np.float32)).actions, expected)


def test_a_box_of_several_axes_clips_in_row_major_order():
    box = Box((-np.inf, -2.0), (0.75, np.inf), (1, 2))
    close(act(gaussian(box, clip_actions=True)).actions, [0.75, -2.0])


def test_censored_probabilities_add_up_to_one():
    policy = gaussian(clip_actions=True, clipped_log_prob="censored", reduction="none")
    at = jax.jit(lambda x: jnp.exp(policy.evaluate(PARAMS, OBSERVATION, jnp.stack([x, x])).log_prob))
    for dimension in (0, 1):
        inside = quad(lambda x, i=dimension: float(at(np.float32(x))[i]), -0.999999, 0.999999, epsabs=1e-4)[0]
        ends = float(at(np.float32(-1.0))[dimension] + at(np.float32(1.0))[dimension])
        assert inside + ends == pytest.approx(1.0, abs=1e-5)


def test_clip_mean_actions_comes_before_the_draw():
    params = {"mean": np.array([3.0, -0.5], np.float32), "log_std": np.zeros(2, np.float32)}
    result = act(gaussian(clip_mean_actions=True, reduction="none"), params)
    close(result.outputs["mean_actions"], [1.0, -0.5])
    close(result.actions, [2.0, -1.5])  # (1, -0.5) + (1, -1); the action itself is not clipped
    close(result.log_prob, [-1.4189385, -1.4189385])  # z = (1, -1) from the clipped mean


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [-20.0, 2.0]),
        ({"clip_log_std": False}, [-30.0, 5.0]),
        ({"min_log_std": -1.0, "max_log_std": 0.5}, [-1.0, 0.5]),
        ({"min_log_std": -40.0}, [-30.0, 2.0]),
        ({"max_log_std": 9.0}, [-20.0, 5.0]),
    ],
)
def test_clip_log_std(options, expected):
    params = {"mean": np.zeros(2, np.float32), "log_std": np.array([-30.0, 5.0], np.float32)}
    policy = gaussian(reduction="none", **options)
    result, log_std, entropy = jax.jit(
        lambda p: (act(policy, p), policy.log_std(p, OBSERVATION), policy.entropy(p, OBSERVATION))
    )(params)
    close(result.outputs["log_std"], expected)
    close(log_std, expected)
    np.testing.assert_allclose(result.actions, np.exp(expected) * NOISE, rtol=2e-6)  # mean 0: std · noise
    close(result.log_prob, -0.5 - np.array(expected) - 0.9189385)
    close(entropy, np.array(expected) + 1.4189385)


def test_mean_and_log_std_are_clipped_first_the_action_last():
    # mean (3, -3) -> (1, -1); log_std (5, 5) -> (2, 2), std 7.389056; noise (-0.1, 0.5):
    # raw (1 - 0.7389056, -1 + 3.694528) = (0.2610944, 2.694528) -> (0.2610944, 1).
    # log_prob of that action: z = (-0.1, 2/7.389056 = 0.2706706):
    # -½·0.01 - 2 - c = -2.9239385 and -½·0.0732626 - 2 - c = -2.9555698
    params = {"mean": np.array([3.0, -3.0], np.float32), "log_std": np.full(2, 5.0, np.float32)}
    policy = gaussian(clip_actions=True, clip_mean_actions=True, reduction="none")
    result = act(policy, params, np.array([-0.1, 0.5], np.float32))
    close(result.outputs["raw_actions"], [0.2610944, 2.694528])
    close(result.actions, [0.2610944, 1.0])
    close(result.log_prob, [-2.9239385, -2.9555698])


def test_taken_actions_are_scored_as_they_are():
    # (2, 2) lies outside the Box and is not clipped: z = (1.5, 1.5),
    # -½·2.25 - c = -2.0439385 and -½·2.25 - log 2 - c = -2.7370857
    policy = gaussian(clip_actions=True, reduction="none")
    taken_actions = np.array([2.0, 2.0], np.float32)
    result = act(policy, taken_actions=taken_actions)
    close(result.actions, [1.0, -1.0])
    close(result.log_prob, [-2.0439385, -2.7370857])
    close(policy.evaluate(PARAMS, OBSERVATION, taken_actions).log_prob, [-2.0439385, -2.7370857])
    raw_alone = gaussian(clip_actions=True, clipped_log_prob="unclipped", reduction="none")
    close(raw_alone.evaluate(PARAMS, OBSERVATION, raw_actions=taken_actions).log_prob, [-2.0439385, -2.7370857])


@pytest.mark.parametrize(
    ("clip_actions", "actions", "log_prob"),
    [
        # At the mean z is zero: -c and -log 2 - c.
        (False, [0.5, -1.0], [-0.9189385, -1.6120857]),
        # The Box ends at ±0.25: z = (-0.25, 0.75/2): -½·0.0625 - c and -½·0.140625 - log 2 - c.
        (True, [0.25, -0.25], [-0.9501885, -1.6823982]),
    ],
)
def test_the_deterministic_action_is_the_mean(clip_actions, actions, log_prob):
    policy = gaussian(Box(-0.25, 0.25, (2,)), clip_actions=clip_actions, reduction="none")
    result = act(policy, deterministic=True)
    close(result.actions, actions)
    close(result.outputs["raw_actions"], [0.5, -1.0])
    close(result.log_prob, log_prob)


def test_entropy_and_log_std_are_given_for_every_row_and_dimension():
    policy, observations = gaussian(), np.zeros((3, 1), np.float32)
    close(policy.entropy(PARAMS, observations), [[1.4189385, 2.1120857]] * 3)
    close(policy.log_std(PARAMS, observations), [[0.0, 0.6931472]] * 3)


def test_a_state_dependent_log_std_stays_with_its_row():
    policy = gaussjax.gaussian(Observed(), 2, UNIT)
    log_std = np.array([[0.0, 1.0], [-2.0, 0.5], [3.0, -25.0]], np.float32)
    clipped = np.array([[0.0, 1.0], [-2.0, 0.5], [2.0, -20.0]])
    close(policy.log_std({}, log_std), clipped)
    close(policy.entropy({}, log_std), clipped + 1.4189385)


def test_censored_actions_beyond_a_bound_count_as_on_it_and_a_closed_dimension_is_certain():
    box = Box((-1.0, -1.0, 0.5), (1.0, np.inf, 0.5), (3,))
    policy = gaussian(box, clip_actions=True, clipped_log_prob="censored", reduction="none")
    params = {name: np.zeros(3, np.float32) for name in PARAMS}
    taken = np.array([[-1.0, -7.0, 0.5], [-3.0, -1.0, 0.0]], np.float32)

    @jax.jit
    def scored(params):
        log_prob, pullback = jax.vjp(lambda p: policy.evaluate(p, np.zeros((2, 1), np.float32), taken).log_prob, params)
        return log_prob, pullback(jnp.ones_like(log_prob))

    log_prob, gradients = scored(params)
    # Of a standard normal 0.158655 lies below -1, and its logarithm is -1.841022.
    np.testing.assert_allclose(log_prob, [[-1.841022, -1.841022, 0.0]] * 2, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_a_policy_is_shown_by_what_it_is_made_of():
    assert repr(gaussian()) == (
        "<gaussian policy: Given, Box(low=-inf, high=inf, shape=(1,), dtype='float32') to "
        "Box(low=-1.0, high=1.0, shape=(2,), dtype='float32')>"
    )


def test_infinite_options_survive_strict_json():
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 2, UNIT, min_log_std=-np.inf)
    text = json.dumps(policy.spec.to_dict(), allow_nan=False)
    assert gaussjax.from_spec(json.loads(text)).spec == policy.spec


@pytest.mark.parametrize("clipped_log_prob", ["density", "unclipped", "censored"])
def test_integer_actions_are_scored_as_the_numbers_they_are(clipped_log_prob):
    """Bounds that are no integers stay what they are."""
    box, clipping = Box((-0.5, -np.inf), (1.5, np.inf), (2,)), {"clipped_log_prob": clipped_log_prob}
    policy = gaussian(box, reduction="none", clip_actions=True, **clipping)
    whole, argument = np.array([0, 5]), "raw_actions" if clipped_log_prob == "unclipped" else "taken_actions"
    found = policy.evaluate(PARAMS, OBSERVATION, **{argument: whole}).log_prob
    floats = policy.evaluate(PARAMS, OBSERVATION, **{argument: whole.astype(np.float32)}).log_prob
    np.testing.assert_array_equal(found, floats)


def test_actions_clipped_in_float32_are_censored_in_float64_too(x64):
    """0.7 as float32 lies inside the Box whose bound is 0.7 as float64."""
    policy = gaussjax.gaussian(Given(), 1, Box(-0.7, 0.7, (2,)), clip_actions=True, clipped_log_prob="censored")
    params = {"mean": jnp.zeros(2, jnp.float32), "log_std": jnp.zeros(2, jnp.float32)}
    act = policy.act(params, None, OBSERVATION, noise=np.array([3.0, -3.0], np.float32))
    for dtype in (np.float32, np.float64):
        taken = np.asarray(act.actions, dtype)
        np.testing.assert_allclose(policy.evaluate(params, OBSERVATION, taken).log_prob, act.log_prob, rtol=1e-6)

"""The squashed and the full-covariance policies, where they differ from the diagonal one."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.networks import MLP, ActorCritic
from gaussjax.spaces import Box

KEY = jax.random.key(0)
OBSERVATIONS = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
BOX = Box((-1.0, 0.0), (1.0, 3.0), (2,))


@pytest.fixture(scope="module")
def squashed() -> tuple[gaussjax.Policy, dict]:
    policy = gaussjax.squashed_gaussian(MLP((8,), output_activation=None), 3, BOX)
    return policy, policy.init(KEY)


@pytest.fixture(scope="module")
def multivariate() -> tuple[gaussjax.Policy, dict]:
    policy = gaussjax.multivariate_gaussian(MLP((8,), std="state"), 3, Box(shape=(3,)))
    params = policy.init(KEY)
    return policy, jax.tree.map(lambda x: x + 0.1, params)


def test_open_half_open_and_empty_dimensions_are_refused_by_number() -> None:
    # In float32 1e8 and 1e8 + 1 are one number, and 1e39 is infinite.
    box = Box((-1.0, -np.inf, 0.0, 1.0, 1e8, 0.0), (1.0, 1.0, np.inf, 1.0, 1e8 + 1, 1e39), (6,))
    with pytest.raises(ValueError, match=r"two finite bounds, low < high.* in the dimensions \[1, 2, 3, 4, 5\]"):
        gaussjax.squashed_gaussian(MLP(), 3, box)


def test_the_deterministic_action_is_the_median_not_the_mode(squashed) -> None:
    policy, params = squashed
    result = policy.act(params, None, OBSERVATIONS, deterministic=True)
    distribution, outputs = policy.apply(params, OBSERVATIONS)
    np.testing.assert_allclose(result.actions, distribution.median(), rtol=1e-6)
    np.testing.assert_allclose(result.actions[:, 0], jnp.tanh(outputs["mean_actions"][:, 0]), rtol=1e-6)
    assert np.all(np.abs(result.actions - distribution.mode()) > 1e-3)


def test_actions_lie_in_the_box_and_raw_ones_lead_to_them(squashed) -> None:
    policy, params = squashed
    result = policy.act(params, KEY, jnp.tile(OBSERVATIONS, (1000, 1)))
    low, high = (jnp.asarray(side)[None] for side in gaussjax.spaces.bounds(BOX))
    assert bool(jnp.all((result.actions >= low) & (result.actions <= high)))
    expected = jnp.asarray([[0.0, 1.5]]) + jnp.asarray([[1.0, 1.5]]) * jnp.tanh(result.outputs["raw_actions"])
    np.testing.assert_allclose(result.actions, expected, atol=1e-6)


def test_saturated_actions_are_scored_as_sampled_from_their_raw_ones(squashed) -> None:
    policy, params = squashed
    # Noise of ±25 saturates tanh; the log-density of the sample is far from that of the edge.
    noise = 25.0 * jnp.sign(jax.random.normal(KEY, (4, 2)))
    result = policy.act(params, None, OBSERVATIONS, noise=noise)
    raw = policy.evaluate(params, OBSERVATIONS, raw_actions=result.outputs["raw_actions"])
    edge = policy.evaluate(params, OBSERVATIONS, result.actions)
    np.testing.assert_allclose(raw.log_prob, result.log_prob, rtol=1e-5)
    assert np.all(np.isfinite(edge.log_prob))
    assert np.all(np.abs(edge.log_prob - raw.log_prob) > 10)


@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.multivariate_gaussian])
def test_raw_actions_score_clipped_samples_before_the_clip(factory) -> None:
    options = {"clip_actions": True, "clipped_log_prob": "unclipped"}
    policy = factory(MLP((8,)), 3, Box(-0.1, 0.1, (2,)), **options)
    params = policy.init(KEY)
    result = policy.act(params, KEY, OBSERVATIONS)
    assert bool(jnp.any(result.actions != result.outputs["raw_actions"]))
    scored = policy.evaluate(params, OBSERVATIONS, raw_actions=result.outputs["raw_actions"])
    np.testing.assert_allclose(scored.log_prob, result.log_prob, rtol=1e-5)


def test_entropy_of_the_policy_is_that_of_its_samples(squashed) -> None:
    policy, params = squashed
    result = policy.act(params, KEY, jnp.tile(OBSERVATIONS[:1], (100_000, 1)))
    entropy = policy.entropy(params, OBSERVATIONS[:1]).sum()
    error = float(result.log_prob.std()) / math.sqrt(100_000)
    assert float(-result.log_prob.mean()) == pytest.approx(float(entropy), abs=5 * error)


def test_any_network_of_ours_gives_the_correlations() -> None:
    for network in (MLP((8,)), MLP((8,), std="state"), ActorCritic(MLP((8,)))):
        policy = gaussjax.multivariate_gaussian(network, 3, Box(shape=(3,)))
        distribution, outputs = policy.apply(policy.init(KEY), OBSERVATIONS)
        assert outputs["off_diagonal"].shape == (4, 3)
        np.testing.assert_array_equal(distribution.off_diagonal, np.zeros((4, 3)))


def test_one_dimension_has_no_correlations() -> None:
    full, plain = (
        factory(MLP((8,)), 3, Box(shape=(1,))) for factory in (gaussjax.multivariate_gaussian, gaussjax.gaussian)
    )
    params = plain.init(KEY)
    for got, expected in zip(
        full.act(params, KEY, OBSERVATIONS)[:2], plain.act(params, KEY, OBSERVATIONS)[:2], strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_actions_are_correlated_as_the_network_says(multivariate) -> None:
    policy, params = multivariate
    distribution, outputs = policy.apply(params, OBSERVATIONS[:1])
    assert float(jnp.abs(outputs["off_diagonal"]).min()) > 0.05
    samples = policy.act(params, KEY, jnp.tile(OBSERVATIONS[:1], (100_000, 1))).actions
    covariance = np.asarray(distribution.covariance()[0])
    np.testing.assert_allclose(np.cov(np.asarray(samples).T), covariance, atol=0.03 * covariance.max())


def test_a_clipped_dimension_rescores_those_after_it() -> None:
    policy = gaussjax.multivariate_gaussian(
        MLP((8,)), 3, Box((-0.1, -np.inf), (0.1, np.inf), (2,)), clip_actions=True, reduction="none"
    )
    params = jax.tree.map(lambda x: x + 0.3, policy.init(KEY))
    result = policy.act(params, KEY, OBSERVATIONS)
    scored = policy.evaluate(params, OBSERVATIONS, result.actions)
    np.testing.assert_allclose(result.log_prob, scored.log_prob, rtol=1e-5)


def test_the_censored_density_has_no_form_with_correlations() -> None:
    with pytest.raises(ValueError, match="clipped_log_prob: expected one of"):
        gaussjax.multivariate_gaussian(MLP(), 3, BOX, clip_actions=True, clipped_log_prob="censored")


class Plain(nn.Module):
    num_actions: int | None = None

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_actions)(x), jnp.zeros(self.num_actions), {}


def test_a_network_without_correlations_is_told_what_to_give() -> None:
    policy = gaussjax.multivariate_gaussian(Plain(), 3, Box(shape=(3,)))
    params = policy.init(KEY)
    with pytest.raises(ValueError, match=r"expected outputs\['off_diagonal'\] of shape \(4, 3\) or \(3,\)"):
        policy.apply(params, OBSERVATIONS)


@pytest.mark.parametrize(
    ("activation", "clip_mean_actions"), [(None, True), ("tanh", False)], ids=["clipped", "saturated"]
)
def test_a_censored_action_whose_raw_one_is_on_the_bound_has_the_mass_of_its_side(activation, clip_mean_actions):
    policy = gaussjax.gaussian(
        MLP((8,), std="fixed", output_activation=activation),
        3,
        Box(-1.0, 1.0, (2,)),
        clip_actions=True,
        clip_mean_actions=clip_mean_actions,
        clipped_log_prob="censored",
        reduction="none",
    )
    params = jax.tree.map(jnp.zeros_like, policy.init(KEY))
    params["params"]["head"]["mean"]["bias"] = jnp.array([20.0, -20.0])
    actions, log_prob, outputs = policy.act(params, None, OBSERVATIONS, deterministic=True)
    np.testing.assert_array_equal(outputs["raw_actions"], [[1.0, -1.0]] * 4)
    # Half of what is drawn around a bound is clipped to it.
    np.testing.assert_allclose(log_prob, np.full((4, 2), -0.6931472), rtol=1e-6)
    taken = policy.act(params, None, OBSERVATIONS, taken_actions=actions, deterministic=True)
    np.testing.assert_array_equal(taken.log_prob, log_prob)
    np.testing.assert_array_equal(policy.evaluate(params, OBSERVATIONS, actions).log_prob, log_prob)


@pytest.mark.parametrize("std", ["parameter", "state", "fixed"])
@pytest.mark.parametrize("bounds", [None, (-3.0, 1.0)])
def test_every_head_starts_at_its_log_std_and_stays_within_smooth_bounds(std: str, bounds) -> None:
    network = MLP((8,), std=std, initial_log_std=-0.7, log_std_bounds=bounds)
    policy = gaussjax.squashed_gaussian(network, 3, BOX, clip_log_std=False)
    params = policy.init(KEY)
    np.testing.assert_allclose(policy.log_std(params, OBSERVATIONS), np.full((4, 2), -0.7), rtol=1e-5)
    moved = jax.tree.map(lambda x: x + 0.5, params)
    log_std = np.asarray(policy.log_std(moved, OBSERVATIONS))
    if std == "fixed":
        np.testing.assert_allclose(log_std, -0.7, rtol=1e-5)
    elif bounds:
        assert np.all((log_std > -0.7) & (log_std <= 1.0))
    assert (np.ptp(log_std, axis=0) > 0).all() == (std == "state")


def test_the_smooth_bound_keeps_a_gradient_where_the_hard_clip_has_none() -> None:
    smooth = MLP((8,), initial_log_std=1.9, log_std_bounds=(-20.0, 2.0))
    gradients = {}
    for name, network in {"smooth": smooth, "hard": MLP((8,), initial_log_std=2.5)}.items():
        policy = gaussjax.gaussian(network, 3, BOX)
        params = policy.init(KEY)
        gradient = jax.grad(lambda p, policy=policy: policy.entropy(p, OBSERVATIONS).sum())(params)
        gradients[name] = float(jnp.abs(gradient["params"]["head"]["log_std"]).min())
    assert gradients["smooth"] > 0.0
    assert gradients["hard"] == 0.0


@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian])
def test_a_bfloat16_trunk_has_a_float32_head(factory) -> None:
    policy = factory(MLP((8,), dtype="bfloat16", std="state"), 3, BOX)
    params = policy.init(KEY)
    result = policy.act(params, KEY, OBSERVATIONS)
    scored = policy.evaluate(params, OBSERVATIONS, result.actions)
    results = (result.actions, result.log_prob, scored.log_prob, scored.entropy, *result.outputs.values())
    assert {x.dtype.name for x in results} == {"float32"}


@pytest.mark.parametrize("listed", [tuple, list])
def test_modules_held_in_a_sequence_are_filled_in_too(listed):
    head = gaussjax.networks.heads.GaussianHead()
    network = nn.Sequential(listed([nn.Dense(8), nn.tanh, head]))
    policy = gaussjax.gaussian(network, 3, gaussjax.spaces.Box(shape=(2,)))
    params = policy.init(jax.random.key(0))
    assert policy.act(params, None, jnp.ones((4, 3)), deterministic=True).actions.shape == (4, 2)

"""The squashed and the full-covariance policies, where they differ from the diagonal one."""

import functools
import math
from types import SimpleNamespace

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax.networks import MLP, ActorCritic
from gaussjax.spaces import Box
from tests import policies

KEY = jax.random.key(0)
OBSERVATIONS = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)
MANY = np.tile(OBSERVATIONS[:1], (100_000, 1))
BOX = Box((-1.0, 0.0), (1.0, 3.0), (2,))


@pytest.fixture(scope="module")
def squashed() -> SimpleNamespace:
    """What a squashed policy does and says, from one program: calm, for many draws, and for noise of ±25."""
    policy = gaussjax.squashed_gaussian(MLP((8,), output_activation=None), 3, BOX)

    @jax.jit
    def everything(params, noise):
        saturated = policy.act(params, None, OBSERVATIONS, noise=noise)
        actions = {"raw_actions": saturated.outputs["raw_actions"]}, {"taken_actions": saturated.actions}
        return {
            "calm": policy.act(params, None, OBSERVATIONS, deterministic=True),
            "drawn": policy.act(params, KEY, MANY),
            "distribution": policy.apply(params, OBSERVATIONS)[0],
            "entropy": policy.entropy(params, OBSERVATIONS),
            "saturated": saturated.log_prob,
            "scores": [policy.evaluate(params, OBSERVATIONS, **each).log_prob for each in actions],
        }

    noise = 25.0 * np.sign(np.random.default_rng(0).normal(size=(4, 2)))
    return SimpleNamespace(**jax.device_get(everything(policies.random_params(policy), noise)))


def test_open_half_open_and_empty_dimensions_are_refused_by_number() -> None:
    # In float32 1e8 and 1e8 + 1 are one number, and 1e39 is infinite.
    box = Box((-1.0, -np.inf, 0.0, 1.0, 1e8, 0.0), (1.0, 1.0, np.inf, 1.0, 1e8 + 1, 1e39), (6,))
    with pytest.raises(ValueError, match=r"two finite bounds, low < high.* in the dimensions \[1, 2, 3, 4, 5\]"):
        gaussjax.squashed_gaussian(MLP(), 3, box)


def test_the_deterministic_action_is_the_median_not_the_mode(squashed) -> None:
    actions, distribution = squashed.calm.actions, squashed.distribution
    np.testing.assert_allclose(actions, distribution.median(), rtol=1e-6)
    np.testing.assert_allclose(actions[:, 0], np.tanh(squashed.calm.outputs["mean_actions"][:, 0]), rtol=1e-6)
    assert np.all(np.abs(actions - distribution.mode()) > 1e-3)


def test_actions_lie_in_the_box_and_raw_ones_lead_to_them(squashed) -> None:
    actions, raw_actions = squashed.drawn.actions, squashed.drawn.outputs["raw_actions"]
    assert np.all((actions >= np.float32([[-1.0, 0.0]])) & (actions <= np.float32([[1.0, 3.0]])))
    np.testing.assert_allclose(actions, [[0.0, 1.5]] + np.array([[1.0, 1.5]]) * np.tanh(raw_actions), atol=1e-6)


def test_saturated_actions_are_scored_as_sampled_from_their_raw_ones(squashed) -> None:
    # Noise of ±25 saturates tanh; the log-density of the sample is far from that of the edge.
    raw, edge = squashed.scores
    np.testing.assert_allclose(raw, squashed.saturated, rtol=1e-5)
    assert np.all(np.isfinite(edge))
    assert np.all(np.abs(edge - raw) > 10)


def test_entropy_of_the_policy_is_that_of_its_samples(squashed) -> None:
    log_prob = squashed.drawn.log_prob
    error = float(log_prob.std()) / math.sqrt(100_000)
    assert float(-log_prob.mean()) == pytest.approx(float(squashed.entropy[0].sum()), abs=5 * error)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("options", [{"clipped_log_prob": "unclipped"}, {"reduction": "none"}], ids=str)
def test_clipped_samples_of_correlated_dimensions_are_scored_as_they_were_drawn(options) -> None:
    # A clipped dimension rescores those after it; raw actions are scored as before the clip.
    box = Box((-0.1, -np.inf), (0.1, np.inf), (2,))
    policy = gaussjax.multivariate_gaussian(MLP((8,)), 3, box, clip_actions=True, **options)

    @jax.jit
    def both(params):
        result = policy.act(params, KEY, OBSERVATIONS)
        raw = {"raw_actions": result.outputs["raw_actions"]} if "clipped_log_prob" in options else {}
        return result, policy.evaluate(params, OBSERVATIONS, **(raw or {"taken_actions": result.actions})).log_prob

    result, scored = both(policies.random_params(policy))
    assert np.any(result.actions != result.outputs["raw_actions"])
    np.testing.assert_allclose(scored, result.log_prob, rtol=1e-5)


def test_any_network_of_ours_gives_the_correlations() -> None:
    for network in (MLP((8,)), MLP((8,), std="state"), ActorCritic(MLP((8,)))):
        policy = gaussjax.multivariate_gaussian(network, 3, Box(shape=(3,)))
        distribution, outputs = jax.eval_shape(policy.apply, policies.random_params(policy), OBSERVATIONS)
        assert distribution.off_diagonal.shape == outputs["off_diagonal"].shape == (4, 3)


@pytest.mark.without("jax_debug_key_reuse")
def test_one_dimension_has_no_correlations() -> None:
    full, plain = (
        factory(MLP((8,)), 3, Box(shape=(1,))) for factory in (gaussjax.multivariate_gaussian, gaussjax.gaussian)
    )
    params = policies.random_params(plain)
    for got, expected in zip(
        *(jax.jit(each.act)(params, KEY, OBSERVATIONS)[:2] for each in (full, plain)), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.without("jax_debug_key_reuse")
def test_actions_are_correlated_as_the_network_says() -> None:
    policy = gaussjax.multivariate_gaussian(MLP((8,), std="state"), 3, Box(shape=(3,)))
    params = policies.random_params(policy)
    distribution, outputs = policy.apply(params, OBSERVATIONS[:1])
    assert np.abs(outputs["off_diagonal"]).min() > 0.05
    covariance = np.asarray(distribution.covariance()[0])
    samples = np.asarray(policy.act(params, KEY, MANY).actions)
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=0.03 * covariance.max())


def test_the_censored_density_has_no_form_with_correlations() -> None:
    with pytest.raises(ValueError, match="clipped_log_prob: expected one of"):
        gaussjax.multivariate_gaussian(MLP(), 3, BOX, clip_actions=True, clipped_log_prob="censored")


def test_a_network_without_correlations_is_told_what_to_give() -> None:
    policy = gaussjax.multivariate_gaussian(policies.OwnModule(), 3, Box(shape=(3,)))
    with pytest.raises(ValueError, match=r"expected outputs\['off_diagonal'\] of shape \(4, 3\) or \(3,\)"):
        policy.apply(policies.random_params(policy), OBSERVATIONS)


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
    params = policies.only_noise(policies.random_params(policy))
    params["params"]["head"]["mean"]["bias"] += np.float32([20.0, -20.0])

    @jax.jit
    def everything(params):
        result = policy.act(params, None, OBSERVATIONS, deterministic=True)
        taken = policy.act(params, None, OBSERVATIONS, taken_actions=result.actions, deterministic=True)
        return result, taken.log_prob, policy.evaluate(params, OBSERVATIONS, result.actions).log_prob

    (_, log_prob, outputs), taken, evaluated = everything(params)
    np.testing.assert_array_equal(outputs["raw_actions"], [[1.0, -1.0]] * 4)
    # Half of what is drawn around a bound is clipped to it.
    np.testing.assert_allclose(log_prob, np.full((4, 2), -0.6931472), rtol=1e-6)
    np.testing.assert_array_equal(taken, log_prob)
    np.testing.assert_array_equal(evaluated, log_prob)


def test_a_policy_starts_at_its_log_std() -> None:
    network = MLP((8,), std="state", initial_log_std=-0.7, log_std_bounds=(-3.0, 1.0))
    policy = gaussjax.squashed_gaussian(network, 3, BOX, clip_log_std=False)
    np.testing.assert_allclose(policy.log_std(policy.init(KEY), OBSERVATIONS), np.full((4, 2), -0.7), rtol=1e-5)


def test_the_smooth_bound_keeps_a_gradient_where_the_hard_clip_has_none() -> None:
    for bounds, moves in (((-20.0, 2.0), True), (None, False)):
        policy = gaussjax.gaussian(MLP((8,), log_std_bounds=bounds), 3, BOX)
        params = policies.random_params(policy)
        params["params"]["head"]["log_std"] += 2.5
        gradient = jax.jit(jax.grad(lambda p, policy=policy: policy.entropy(p, OBSERVATIONS).sum()))(params)
        assert np.all((gradient["params"]["head"]["log_std"] > 0.0) == moves)


@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian])
def test_a_bfloat16_trunk_has_a_float32_head(factory) -> None:
    policy = factory(MLP((8,), dtype="bfloat16", std="state"), 3, BOX)

    def results(params):
        result = policy.act(params, KEY, OBSERVATIONS)
        return result, policy.evaluate(params, OBSERVATIONS, result.actions)

    found = jax.eval_shape(results, policies.random_params(policy))
    assert {x.dtype.name for x in jax.tree.leaves(found)} == {"float32"}


@pytest.mark.parametrize("listed", [tuple, list])
def test_modules_held_in_a_sequence_are_filled_in_too(listed):
    network = nn.Sequential(listed([nn.Dense(8), nn.tanh, gaussjax.networks.GaussianHead()]))
    policy = gaussjax.gaussian(network, 3, Box(shape=(2,)))
    found = jax.eval_shape(lambda params: policy.act(params, KEY, OBSERVATIONS), policies.random_params(policy))
    assert found.actions.shape == (4, 2)


class Given:
    """A network that returns its observations as the mean, a standard deviation of e and no correlations."""

    def init(self, key, observations):
        return {}

    def apply(self, params, observations):
        return observations, jnp.ones(3), {"off_diagonal": jnp.zeros(3)}


class GivenInTorch(torch.nn.Module):
    def forward(self, observations):
        return observations, torch.ones(3), {"off_diagonal": torch.zeros(3)}


CLIPPING = {
    "gaussian": {"clip_actions": True},
    "multivariate_gaussian": {"clip_actions": True, "clip_mean_actions": True},
    "squashed_gaussian": {},
    "truncated_gaussian": {},
}
EDGES = [(-0.1, 0.1), (-1 / 3, 1 / 3), (-0.7, 0.3), (1.0, 1.0 + 2.0**-9)]


def contained(kind, library, box, count, batch):
    """True if a Gymnasium Box contains all actions, for means up to four half-widths from its middle."""
    module, network = (gaussjax, Given()) if library == "jax" else (gaussjax.torch, GivenInTorch())
    policy = getattr(module, kind)(network, 3, box, **CLIPPING[kind])
    act = functools.partial(policy.act, {}, None)
    generator = np.random.default_rng(0)
    low, high = (side.astype(np.float64) for side in (box.low, box.high))
    for _ in range(-(-count // batch)):
        spread = 6.0 if kind == "squashed_gaussian" else 2.0 * (high - low)
        center = 0.0 if kind == "squashed_gaussian" else 0.5 * (low + high)
        means = (center + spread * generator.normal(size=(batch, 3))).astype(np.float32)
        result = act(means, noise=generator.normal(size=(batch, 3)).astype(np.float32))
        for actions in (result.actions, act(means, deterministic=True).actions):
            actions = np.asarray(actions).astype(box.dtype, casting="same_kind")
            if not (np.all((box.low <= actions) & (actions <= box.high)) and box.contains(actions[0])):
                return False
    return True


@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("kind", CLIPPING)
def test_the_box_contains_every_action(kind, library):
    for dtype, edges in ((np.float64, EDGES[0]), (np.float64, EDGES[2]), (np.float16, EDGES[1])):
        assert contained(kind, library, gymnasium.spaces.Box(*edges, (3,), dtype), 2_000, 2_000)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("library", ["jax", "torch"])
@pytest.mark.parametrize("kind", CLIPPING)
def test_the_box_contains_ten_million_actions(kind, library, edges, dtype):
    assert contained(kind, library, gymnasium.spaces.Box(*edges, (3,), dtype), 10_000_000, 500_000)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "x64"])
@pytest.mark.parametrize("edges", [EDGES[0], *(pytest.param(e, marks=pytest.mark.slow) for e in EDGES[1:3])])
def test_a_censored_action_on_a_bound_that_float32_cannot_hold_has_the_mass_of_its_side(edges, wide, request):
    if wide:
        request.getfixturevalue("x64")
    box = gymnasium.spaces.Box(*edges, (3,), np.float64)
    policy = gaussjax.gaussian(Given(), 3, box, clip_actions=True, clipped_log_prob="censored", reduction="none")
    mean, noise = np.array([[0.05, 0.05, 0.05]]), np.array([[-9.0, 9.0, 0.0]])
    mean, noise = (x if wide else x.astype(np.float32) for x in (mean, noise))
    actions, log_prob, outputs = policy.act({}, None, mean, noise=noise)
    z = (np.array(edges) - 0.05) / np.e
    mass = [math.log(0.5 * math.erfc(sign * x / 2**0.5)) for sign, x in ((-1.0, z[0]), (1.0, z[1]))]
    density = -1.0 - 0.5 * math.log(2.0 * math.pi)
    np.testing.assert_allclose(log_prob, [[*mass, density]], rtol=1e-6)
    copies = [actions, np.asarray(actions, np.float32)]
    if wide:
        # The same float32 action, widened as an environment with a float64 Box widens it.
        narrow = policy.act({}, None, mean.astype(np.float32), noise=noise.astype(np.float32)).actions
        copies.append(np.asarray(narrow, np.float64))
    for copy in copies:
        np.testing.assert_allclose(policy.evaluate({}, mean, copy).log_prob, log_prob, rtol=1e-6)
        gaussjax.strict(policy).evaluate({}, mean, copy)
    np.testing.assert_allclose(
        policy.evaluate({}, mean, raw_actions=outputs["raw_actions"]).log_prob, log_prob, rtol=1e-6
    )


def test_a_squashed_policy_refuses_half_widths_that_float32_cannot_compute_with():
    low, high = (-1e38, -1e-39, -8.4e37, -1.2e-38), (1e38, 1e-39, 8.4e37, 1.2e-38)
    with pytest.raises(ValueError, match=r"2\*\*-126 to 8.5e37, .* in the dimensions \[0, 1\]"):
        gaussjax.squashed_gaussian(MLP(), 3, Box(low, high, (4,)))
    policy = gaussjax.squashed_gaussian(Given(), 3, Box((-8.4e37, -1.2e-38, -1.0), (8.4e37, 1.2e-38, 1.0), (3,)))
    mean, noise = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    result = policy.act({}, None, mean, noise=noise)
    assert np.all(np.isfinite(result.log_prob) & (result.actions != 0.0))
    # XLA rounds numbers below 2**-126 to zero, but no constants of a compiled program.
    distribution, _ = policy.apply({}, mean)
    np.testing.assert_allclose(distribution.noise_log_prob(noise)[:, None], result.log_prob, rtol=1e-6)
    assert np.all(np.isfinite(distribution.entropy()) & np.isfinite(distribution.log_prob(result.actions)))


@pytest.mark.parametrize("lead", [gaussjax, gaussjax.torch], ids=["jax", "torch"])
@pytest.mark.parametrize(
    "network",
    [
        MLP((4,), initial_log_std=3.0),
        gaussjax.networks.CNN(initial_log_std=3.0),
        gaussjax.networks.LSTM(initial_log_std=-21.0),
        ActorCritic(MLP((4,), initial_log_std=3.0)),
        gaussjax.networks.Graph([{"name": "all", "layers": [4]}], initial_log_std=3.0),
        MLP((4,), initial_log_std=math.nan),
        MLP((4,), initial_log_std=np.float32(3.0)),
        MLP((4,), initial_log_std=jnp.float32(3.0)),
        MLP((4,), std_activation="50 * softplus(std)"),
        MLP((4,), initial_log_std=np.array([0.0, 5.0]), std_activation="50 * softplus(std)"),
    ],
    ids=["mlp", "cnn", "lstm", "actor-critic", "graph", "nan", "numpy", "jax", "activation", "each"],
)
def test_an_initial_log_std_that_would_be_clipped_for_ever_is_refused(network, lead):
    with pytest.raises(
        ValueError, match=r"initial_log_std: expected a value from min_log_std=-20\.0 to max_log_std=2\.0"
    ):
        lead.squashed_gaussian(network, 3, BOX)
    lead.squashed_gaussian(MLP((4,), initial_log_std=2.0), 3, BOX)
    lead.squashed_gaussian(MLP((4,), initial_log_std=3.0, std_activation="softplus(std)"), 3, BOX)

"""Counterparts in gaussjax of every name of skrl's models and agents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import torch

import gaussjax
import gaussjax.torch
from gaussjax import networks, normalize
from gaussjax.interop import skrl
from gaussjax.training.ppo import update
from tests import policies

BOX = gaussjax.spaces.Box(-0.3, 0.3, (2,))
KEY = jax.random.key(1)
SEEN = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
TAKEN = 0.5 * NOISE
LOG_STD = np.array([-0.5, 2.5], np.float32)


@functools.cache
def make(factory=gaussjax.gaussian, network=None, **options):
    """A policy; without a network, that of a model of skrl whose `compute` returns a mean and a parameter."""
    policy = factory(network or policies.PlainNetwork(), 3, BOX, **options)
    params = policy.init(jax.random.key(0)) if network else {**policies.random_params(policy), "log_std": LOG_STD}
    return policy, params


def density(actions, mean, log_std):
    return scipy.stats.norm(mean.astype(np.float64), np.exp(log_std.astype(np.float64))).logpdf(actions)


def test_a_class_of_gaussian_mixin_is_gaussian():
    policy, params = make()
    actions, log_prob, outputs = policy.act(params, None, SEEN, noise=NOISE)
    mean, clipped = np.asarray(outputs["mean_actions"]), np.minimum(LOG_STD, 2.0)
    np.testing.assert_allclose(actions, mean + np.exp(clipped) * NOISE, rtol=1e-5)
    np.testing.assert_allclose(log_prob, density(np.asarray(actions), mean, clipped).sum(-1)[:, None], rtol=1e-5)


def test_a_class_of_gaussian_mixin_in_torch_is_gaussian_of_torch():
    module = torch.nn.Linear(3, 2)
    network = type("Model", (torch.nn.Module,), {})()
    network.net, network.forward = module, lambda x: (network.net(x), torch.zeros(2), {})
    policy = gaussjax.torch.gaussian(network, 3, BOX)
    params = policy.init(gaussjax.torch.key(0))
    found = policy.act(params, None, SEEN, deterministic=True).actions
    assert (found == module(torch.from_numpy(SEEN))).all()


def test_a_class_of_multivariate_gaussian_mixin_is_multivariate_gaussian():
    # skrl's covariance is diagonal; here it starts so.
    policy, params = make(gaussjax.multivariate_gaussian, networks.MLP((8,), initial_log_std=-0.5))
    log_prob, _, outputs = policy.evaluate(params, SEEN, TAKEN)
    normal = scipy.stats.multivariate_normal(np.zeros(2), np.diag(np.exp([-1.0, -1.0])))
    np.testing.assert_allclose(log_prob[:, 0], normal.logpdf(TAKEN - outputs["mean_actions"]), rtol=1e-5)


def test_act_of_a_profile_is_act_and_with_taken_actions_evaluate_without_a_draw():
    policy, params = make()
    act, expected = skrl.profile(policy, "2.1.1").act, policy.act(params, KEY, SEEN)
    actions, outputs = act(params, KEY, {"observations": SEEN}, role="policy")
    assert np.array_equal(actions, expected.actions)
    assert np.array_equal(outputs["log_prob"], expected.log_prob)
    assert set(expected.outputs) == {"mean_actions", "log_std", "raw_actions"}
    _, outputs = act(params, KEY, {"observations": SEEN, "taken_actions": TAKEN})
    assert np.array_equal(outputs["log_prob"], policy.evaluate(params, SEEN, TAKEN).log_prob)
    with pytest.raises(ValueError, match=r"expected the observations as 'observations', got the names \['states'\]"):
        act(params, KEY, {"states": SEEN})


def test_profiles_have_the_arity_names_and_shapes_of_their_versions():
    policy, params = make()
    old, middle, new = (skrl.profile(policy, version) for version in ("1.4.3", "2.0.0", "2.1.1"))
    before, now = {"states": SEEN}, {"observations": SEEN}
    expected = policy.act(params, KEY, SEEN)
    actions, log_prob, outputs = old.act(params, KEY, before)
    assert np.array_equal(actions, expected.actions)
    assert log_prob.shape == (5, 1)
    assert set(outputs) == {"mean_actions", "log_std"}
    assert np.array_equal(middle.act(params, KEY, now)[1]["log_prob"], log_prob)
    entropy = middle.entropy(params, now)
    shapes = [array.shape for array in (old.log_std(params, before), old.entropy(params, before), entropy)]
    assert shapes == [(5, 2)] * 3
    # The entropy of a normal distribution is 1/2 log(2 pi e) + log_std; log_std is clipped at 2.
    np.testing.assert_allclose(new.entropy(params, now), np.full((5, 1), np.log(2 * np.pi * np.e) + 1.5), rtol=1e-6)
    np.testing.assert_allclose(new.entropy(params, now)[:, 0], np.sum(entropy, -1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"version: expected one of .*got '2.1'"):
        skrl.profile(policy, "2.1")
    for factory in (gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian):
        with pytest.raises(ValueError, match="which skrl has"):
            skrl.profile(factory(networks.MLP(), 3, BOX), "2.1.1")


def test_distribution_is_what_apply_returns():
    policy, params = make()
    distribution, outputs = policy.apply(params, SEEN)
    expected = density(TAKEN, np.asarray(outputs["mean_actions"]), np.minimum(LOG_STD, 2.0)).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(TAKEN), expected, rtol=1e-5)
    theirs = distribution.as_distrax()
    np.testing.assert_allclose(theirs.stddev()[0], np.exp(np.minimum(LOG_STD, 2.0)), rtol=1e-6)


def test_rnn_of_inputs_and_outputs_is_the_carry_and_terminated_the_resets():
    policy = gaussjax.gaussian(networks.GRU(8, sizes=(), sequence_length=3), 3, BOX)
    params = policies.random_params(policy)
    observations = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    ended = np.array([[0], [1], [0], [0], [0], [1]], bool)
    states = np.random.default_rng(3).normal(size=(1, 6, 8)).astype(np.float32)
    inputs = {"observations": observations, "taken_actions": np.zeros((6, 2), np.float32), "rnn": [states]}
    inputs["terminated"] = ended
    _, outputs = skrl.profile(policy, "2.1.1").act(params, KEY, inputs)
    for n, first in enumerate((0, 3)):
        carry, means = (states[0, first][None],), []
        for t in range(first, first + 3):
            _, stepped = policy.apply(params, observations[t][None], carry=carry)
            means.append(stepped["mean_actions"][0])
            carry = (np.asarray(stepped["carry"][0]) * ~ended[t][:, None],)
        np.testing.assert_allclose(outputs["mean_actions"][first : first + 3], np.stack(means), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs["rnn"][0][0, n], carry[0][0], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"inputs\['rnn'\]: expected a list of 1 states of shape \(1, N, 8\)"):
        skrl.profile(policy, "2.1.1").act(params, KEY, {"observations": observations})
    with pytest.raises(ValueError, match="expected consecutive sequences of 3 steps, got 4 steps"):
        skrl.profile(policy, "2.1.1").act(params, KEY, {**inputs, "rnn": [states[:, :4]]})


def test_the_instantiator_of_a_gaussian_model_is_from_spec():
    nodes = [{"name": "net", "input": "observations", "layers": [8, 4], "activations": "elu"}]
    network = networks.from_spec({"nodes": nodes, "output": "net", "initial_log_std": -1.0})
    policy, params = make(network=network)
    assert np.array_equal(params["params"]["head"]["log_std"], [-1.0, -1.0])
    assert jax.eval_shape(policy.apply, params, SEEN)[1]["mean_actions"].shape == (5, 2)
    with pytest.raises(ValueError, match="activation"):
        networks.from_spec({"nodes": [{**nodes[0], "activations": "nonsense"}], "output": "net"})


def test_init_parameters_and_init_biases_are_maps_over_the_tree():
    policy, params = make(network=networks.MLP((8,), initializer="orthogonal", scale=2.0, output_scale=0.01))
    kernel = np.asarray(params["params"]["layers"]["dense_0"]["kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, 4.0 * np.eye(3), atol=1e-5)

    def start(path, leaf):
        name = path[-1].key
        return jnp.full_like(leaf, 0.5) if name == "bias" else leaf

    changed = jax.tree_util.tree_map_with_path(start, params)
    assert (changed["params"]["head"]["mean"]["bias"] == 0.5).all()
    # skrl's init_parameters fills log_std as well.
    assert (policy.log_std(changed, SEEN) == policy.log_std(params, SEEN)).all()


def test_update_parameters_by_polyak_averages_is_incremental_update():
    _, params = make()
    zeros = jax.tree.map(jnp.zeros_like, params)
    found = optax.incremental_update(params, zeros, 0.25)
    jax.tree.map(lambda f, p: np.testing.assert_allclose(f, 0.25 * p, rtol=1e-6), found, params)


def test_freeze_parameters_is_a_stopped_gradient():
    policy, params = make()
    frozen = jax.grad(lambda p: policy.evaluate(jax.lax.stop_gradient(p), SEEN, TAKEN).log_prob.sum())(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(frozen))


def test_random_act_is_uniform_between_the_bounds_of_the_space():
    low, high = gaussjax.spaces.bounds(gaussjax.spaces.Box((-1.0, 0.0), (1.0, 4.0), (2,)))
    drawn = np.asarray(jax.random.uniform(KEY, (4000, 2), minval=low, maxval=high))
    assert scipy.stats.kstest(drawn[:, 0], scipy.stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(drawn[:, 1], scipy.stats.uniform(0.0, 4.0).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("kl", "rate", "expected"),
    [
        (0.017, 3e-4, 2e-4),
        (0.015, 3e-4, 3e-4),
        (0.005, 3e-4, 3e-4),
        (0.003, 3e-4, 4.5e-4),
        (1.0, 1e-6, 1e-6),
        (0.0, 9e-3, 1e-2),
    ],
)
def test_the_kl_adaptive_learning_rate_is_desired_kl(kl, rate, expected):
    # By hand: beyond twice the threshold it is divided by 1.5, below half of it multiplied.
    found = update.adapted_rate(jnp.float32(rate), jnp.float32(kl), 0.008)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_a_running_standard_scaler_is_normalize():
    batch = np.random.default_rng(4).normal(3.0, 2.0, size=(500, 3)).astype(np.float32)
    statistics = normalize.init((3,))
    for part in np.split(batch, 5):
        statistics = normalize.update(statistics, part)
    expected = np.clip((SEEN - batch.mean(0)) / batch.std(0), -5.0, 5.0)
    np.testing.assert_allclose(normalize.apply(statistics, SEEN, clip=5.0), expected, rtol=1e-4, atol=1e-4)
    module = {"running_mean": batch.mean(0), "running_variance": batch.var(0), "current_count": np.array(500.0)}
    np.testing.assert_allclose(normalize.apply(skrl.statistics(module), SEEN), expected, rtol=1e-4, atol=1e-4)
    # skrl counts and averages in float64.
    module = {"running_mean": np.array([1e8 + 1.0]), "running_variance": np.ones(1), "current_count": np.array(2e9)}
    np.testing.assert_allclose(normalize.apply(skrl.statistics(module), np.array([1e8])), [-1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="module: expected the arrays"):
        skrl.statistics({})

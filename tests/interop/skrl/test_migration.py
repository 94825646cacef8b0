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
from gaussjax.interop.skrl.conventions import conventions, unflatten
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


def test_distribution_is_what_apply_returns():
    policy, params = make()
    distribution, outputs = policy.apply(params, SEEN)
    expected = density(TAKEN, np.asarray(outputs["mean_actions"]), np.minimum(LOG_STD, 2.0)).sum(-1)
    np.testing.assert_allclose(distribution.log_prob(TAKEN), expected, rtol=1e-5)
    theirs = distribution.as_distrax()
    np.testing.assert_allclose(theirs.stddev()[0], np.exp(np.minimum(LOG_STD, 2.0)), rtol=1e-6)


@pytest.mark.parametrize("flags", [{}, {"terminated": 1}, {"truncated": 1}, {"terminated": 1, "truncated": 1}])
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_sequences_of_recurrent_models_end_with_terminated_and_truncated_steps(framework, flags):
    network = networks.ActorCritic(networks.GRU(8, sizes=(), sequence_length=3), critic=networks.LSTM(4))
    policy = gaussjax.gaussian(network, 3, BOX)
    params, convert = policies.random_params(policy), np.asarray
    if framework == "torch":
        params, policy = gaussjax.torch.to_torch(policy.spec, params), gaussjax.torch.from_spec(policy.spec)
        convert = torch.from_numpy
    draw = np.random.default_rng(2)
    observations = draw.normal(size=(6, 3)).astype(np.float32)
    ended = {name: draw.random((6, 1)) < 0.5 for name in flags}
    found = conventions(policy, "2.1.1", num_envs=6)
    states = [draw.normal(size=size).astype(np.float32) for size in found.sizes]
    inputs = {"observations": observations, "rnn": states, **ended}
    call = found.call(jax.tree.map(convert, inputs))
    outputs = policy.act(params, None, call.observations, deterministic=True, **call.options).outputs
    after = call.states(outputs["carry"])
    # The same steps one by one, with the states zeroed by hand.
    single, sequences = policy.apply, [range(n, n + 1) for n in range(6)] if not flags else [range(3), range(3, 6)]
    for row, steps in enumerate(sequences):
        now = [state[:, steps[0] : steps[0] + 1] for state in states]
        for t in steps:
            stepped = found.call(jax.tree.map(convert, {"observations": observations[t : t + 1], "rnn": now}))
            _, one = single(params, stepped.observations, **stepped.options)
            expected = one["mean_actions"].tolist()[0]
            np.testing.assert_allclose(call.flat(outputs["mean_actions"]).tolist()[t], expected, rtol=1e-5, atol=1e-6)
            kept = not any(flag[t, 0] for flag in ended.values())
            now = [np.asarray(state.tolist(), np.float32) * kept for state in stepped.states(one["carry"])]
        for state, last in zip(after, now, strict=True):
            np.testing.assert_allclose(np.asarray(state.tolist())[:, row], last[:, 0], rtol=1e-5, atol=1e-6)


def test_rows_of_a_dict_are_separated_in_the_order_of_its_sorted_names():
    box, pair = gaussjax.spaces.Box(shape=(2, 2)), gaussjax.spaces.MultiDiscrete((3, 2))
    inner = gaussjax.spaces.Tuple((gaussjax.spaces.Discrete(4), box))
    rows = np.arange(14.0, dtype=np.float32).reshape(2, 7)
    found = unflatten(gaussjax.spaces.Dict((("b", inner), ("a", pair))), rows)
    assert found["a"].tolist() == [[0, 1], [7, 8]]
    assert found["b"][0].tolist() == [2, 9]
    assert found["b"][1].tolist() == [[[3.0, 4.0], [5.0, 6.0]], [[10.0, 11.0], [12.0, 13.0]]]


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
        # A step size beyond the limits of 1e-6 and 1e-2 does not move against the rule.
        (0.003, 0.05, 0.05),
        (0.008, 0.05, 0.05),
        (1.0, 5e-7, 5e-7),
        (0.017, 0.03, 0.02),
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
    # skrl adds 1e-8 to the standard deviation, and normalize.apply adds it to the variance.
    module = {"running_mean": np.zeros(1), "running_variance": np.array([4e-8]), "current_count": np.array(2e9)}
    np.testing.assert_allclose(
        normalize.apply(skrl.statistics(module), np.array([1e-4])), [1e-4 / (2e-4 + 1e-8)], rtol=1e-6
    )
    with pytest.raises(ValueError, match="module: expected the arrays"):
        skrl.statistics({})
    with pytest.raises(ValueError, match="running_variance of 0 or more"):
        skrl.statistics({**module, "running_variance": -np.ones(1)})

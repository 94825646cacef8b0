import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax import normalize
from gaussjax.data import Episodes
from gaussjax.random import keys
from gaussjax.random.permutation import permutation
from gaussjax.spaces import Box
from gaussjax.training import bc
from gaussjax.training.algorithm import promoting
from tests.training.bc.small import loop_of, recorded, same, trained

KINDS_BY_NAME = ("gaussian", "squashed_gaussian", "truncated_gaussian")


@pytest.mark.slow
def test_recovers_the_mean_and_the_spread_of_a_noisy_teacher():
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (4096, 2)).astype(np.float32)
    # The teacher: mean 0.5·x₀, standard deviation 0.1 where x₁ < 0 and 0.4 where x₁ > 0.
    spread = np.where(seen[:, 1:] < 0, 0.1, 0.4)
    done = (0.5 * seen[:, :1] + spread * rng.normal(size=(4096, 1))).astype(np.float32)
    config = bc.Config(hidden_sizes=(32, 32), learning_rate=3e-3)
    algorithm = bc.make(Episodes(seen, done), bc.make_policy(2, Box(-3.0, 3.0, (1,)), config), config)
    state, metrics = trained(algorithm, 40)
    assert metrics["step"] == 40
    places = np.array([[0.5, -0.5], [-0.5, -0.5], [0.5, 0.5]], np.float32)
    distribution, _ = algorithm.policy.apply(state.params, normalize.apply(state.observation_statistics, places))
    np.testing.assert_allclose(distribution.mean()[:, 0], [0.25, -0.25, 0.25], atol=0.06)
    np.testing.assert_allclose(distribution.stddev()[:, 0], [0.1, 0.1, 0.4], rtol=0.2)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("decay", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def test_epoch_equals_one_written_by_hand(decay):
    """Two gradient steps of nine rows, four at a time: the likelihood, its weights and the bonus written out."""
    options = {"batch_size": 4, "entropy_coefficient": 0.1, "variance_weight": 0.25, "weight_decay": decay}
    rng = np.random.default_rng(1)
    seen = rng.normal(3.0, 2.0, (9, 3)).astype(np.float32)
    done = rng.uniform(-1.0, 1.0, (9, 2)).astype(np.float32)
    counted = rng.uniform(0.1, 2.0, 9).astype(np.float32)
    algorithm = loop_of(Episodes(seen, done, weights=counted), **options)
    policy, state = algorithm.policy, algorithm.init(jax.random.key(2))
    updated, metrics = algorithm.step(state)

    shown, counted = (seen - seen.mean(0)) / seen.std(0), counted / counted.mean()
    optimizer = promoting(optax.adam(1e-3))

    @jax.jit
    @jax.grad
    def gradient(params, observations, actions, counted):
        outputs = policy.apply(params, observations)[1]
        mean, log_std = outputs["mean_actions"], outputs["log_std"]
        density = jnp.prod(jnp.exp(-0.5 * ((actions - mean) / jnp.exp(log_std)) ** 2 - log_std) / (2 * np.pi) ** 0.5, 1)
        # The geometric mean of the variances of two actions, to the power of a quarter.
        weight = jax.lax.stop_gradient(jnp.exp(log_std[:, 0] + log_std[:, 1]) ** 0.25)
        entropy = jnp.sum(log_std + 0.5 * np.log(2 * np.pi * np.e), 1)
        return -jnp.mean(counted * weight * jnp.log(density)) - 0.1 * jnp.mean(entropy)

    @jax.jit
    def applied(params, moments, gradient):
        updates, moments = optimizer.update(gradient, moments)
        # A kernel shrinks by the fraction `decay` times the step size.
        shrunk = jax.tree.map(lambda leaf: leaf * (1.0 - 1e-3 * decay) if leaf.ndim > 1 else leaf, params)
        return optax.apply_updates(shrunk, updates), moments

    expected, moments = state.params, optimizer.init(state.params)
    shuffle_key = jax.random.split(jax.random.split(state.key)[1], 2)[1]
    order = np.asarray(permutation(keys.split(shuffle_key)[0], 9))
    for rows in (order[:4], order[4:8]):
        found = gradient(expected, shown[rows], done[rows], counted[rows])
        expected, moments = applied(expected, moments, found)
    same(updated.params, expected, rtol=1e-4, atol=3e-6)
    same(updated.learner.optimizer[0], moments[0], rtol=1e-4, atol=3e-6)
    assert metrics["skipped"] == 0


@pytest.mark.parametrize("policy", ["gaussian", *(pytest.param(n, marks=pytest.mark.slow) for n in KINDS_BY_NAME[1:])])
def test_squared_error_is_of_the_deterministic_action_in_units_of_the_action(policy):
    dataset = recorded(8, 1, actions=2)
    # Half of the actions are on a bound. Many means begin beyond the other bound, where a clip has no gradient.
    dataset = dataset._replace(actions=np.tile(np.float32([-1.0, 0.5]), (8, 1)))
    options = {"loss": "mean_squared_error", "std": "fixed", "initial_log_std": -1.0, "learning_rate": 0.05}
    algorithm = loop_of(dataset, policy=policy, **options)
    state = algorithm.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: 4.0 * leaf, state.params)
    state = state._replace(learner=state.learner._replace(params=params))
    seen = normalize.apply(state.observation_statistics, dataset.observations)
    actions = algorithm.policy.act(params, None, seen, deterministic=True).actions
    assert (np.abs(actions) > 0.99).any()
    errors = np.asarray(actions) - dataset.actions
    after, metrics = algorithm.step(state)
    np.testing.assert_allclose(metrics["score"], -np.mean(errors**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["mean_error"], np.mean(np.abs(errors)), rtol=1e-5)
    assert metrics["gradient_norm"] > 0.1
    _, later = trained(algorithm._replace(init=lambda _: after), 300)
    assert later["score"] > 0.2 * metrics["score"]


@pytest.mark.parametrize("clip", [False, True])
def test_squared_error_of_means_on_and_beyond_the_box_has_the_gradient_of_the_mean(clip):
    # The means of five actions: within the Box, on its bounds and beyond them.
    means, target = jnp.array([-3.0, -1.0, 0.5, 1.0, 1.5]), 0.2
    network, box = gaussjax.networks.MLP((4,), output_activation=None), Box(-1.0, 1.0, (5,))
    options = {"clip_actions": True, "clipped_log_prob": "unclipped"} if clip else {}
    policy = gaussjax.gaussian(network, 1, box, **options)
    config = bc.Config(batch_size=8, loss="mean_squared_error", normalize_observations=False)
    data = Episodes(np.zeros((8, 1), np.float32), np.full((8, 5), target, np.float32))
    algorithm = bc.make(data, policy, config)
    state = algorithm.init(jax.random.key(0))
    params = jax.tree.map(jnp.zeros_like, state.learner.params)
    params["params"]["head"]["mean"]["bias"] = means
    state = state._replace(learner=state.learner._replace(params=params))
    taken = jnp.clip(means, -1.0, 1.0) if clip else means
    expected = jnp.linalg.norm(2.0 * (taken - target) / 5)
    np.testing.assert_allclose(algorithm.step(state)[1]["gradient_norm"], expected, rtol=1e-5)


@pytest.mark.parametrize(("network", "loss"), [("mlp", "log_prob"), ("gru", "mean_squared_error")])
def test_the_default_loss_of_a_recurrent_policy_is_the_squared_error(network, loss):
    dataset = recorded(16, 2)
    options = {"network": network, "sequence_length": 4, "burn_in": 0, "recurrent_size": 4}
    (one, before), (two, after) = (trained(loop_of(dataset, **options, **more), 1) for more in ({}, {"loss": loss}))
    same((one.learner, before), (two.learner, after))
    assert before["score"] == pytest.approx(before["log_prob"]) if network == "mlp" else before["score"] < 0


@gaussjax.distributions.register
class Laplace(gaussjax.distributions.Distribution):
    """A distribution of one's own, without `stddev`."""

    loc: jax.Array
    log_scale: jax.Array

    def from_noise(self, noise):
        tail = jnp.log(2.0) + jax.scipy.stats.norm.logcdf(-jnp.abs(noise))
        return self.loc - jnp.sign(noise) * jnp.exp(self.log_scale) * tail

    def log_prob(self, actions, reduction="sum"):
        distance = jnp.abs(actions - self.loc) * jnp.exp(-self.log_scale)
        return gaussjax.distributions.reduce(-distance - self.log_scale - jnp.log(2.0), reduction)

    def entropy(self, reduction="sum"):
        return gaussjax.distributions.reduce(1.0 + self.log_scale + jnp.log(2.0), reduction)

    def mean(self):
        return self.loc


def laplace(network, observation_space, action_space, **options):
    kind = gaussjax.policy.Kind("laplace", lambda mean, log_std, _: Laplace(mean, log_std))
    return gaussjax.policy.build(kind, network, observation_space, action_space, **options)


KINDS = {
    "clipped": functools.partial(gaussjax.gaussian, clip_actions=True, clipped_log_prob="unclipped"),
    "squashed": gaussjax.squashed_gaussian,
    "multivariate": gaussjax.multivariate_gaussian,
    "of one's own": laplace,
}


@pytest.mark.parametrize("name", ["squashed", *(pytest.param(n, marks=pytest.mark.slow) for n in KINDS if n[0] != "s")])
def test_error_and_weight_are_in_units_of_the_action(name):
    """Of a wide Box, and a mean and a deviation before any squash that differ from those of the action."""
    config = bc.Config(batch_size=8, variance_weight=0.25, normalize_observations=False)
    network = gaussjax.networks.MLP((8,), output_activation=None, output_scale=2.0, initial_log_std=0.5)
    policy = KINDS[name](network, 1, Box(-3.0, 5.0, (2,)), keepdims=False)
    rng = np.random.default_rng(0)
    seen, done = rng.normal(size=(8, 1)).astype(np.float32), rng.uniform(-3, 5, (8, 2)).astype(np.float32)
    algorithm = bc.make(Episodes(seen, done), policy, config)
    state = algorithm.init(jax.random.key(0))
    _, metrics = algorithm.step(state)
    actions = policy.act(state.params, None, seen, deterministic=True).actions
    np.testing.assert_allclose(metrics["mean_error"], np.mean(np.abs(actions - done)), rtol=1e-5)

    distribution, outputs = policy.apply(state.params, seen)
    deviations = np.exp(outputs["log_std"])
    if name != "of one's own":
        noise = jax.random.normal(jax.random.key(1), (20_000, 8, 2))
        deviations = np.std(distribution.from_noise(noise), axis=0)
    weight = np.prod(deviations, axis=1) ** 0.25

    @jax.jit
    @jax.grad
    def gradient(params):
        scored = "raw_actions" if name == "clipped" else "taken_actions"
        return -jnp.mean(weight * policy.evaluate(params, seen, **{scored: done}).log_prob)

    # The deviations of 20,000 samples are within 1%.
    np.testing.assert_allclose(metrics["gradient_norm"], optax.tree.norm(gradient(state.params)), rtol=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("column", ["observations", "actions"])
def test_a_dataset_that_is_not_finite_in_float32_is_refused(column, value):
    dataset = Episodes(np.zeros((32, 1)), np.zeros((32, 1)))
    getattr(dataset, column)[5] = value
    with pytest.raises(ValueError, match=f"dataset: {column}: expected .* in row 5"):
        loop_of(dataset)


@pytest.mark.slow
def test_a_huge_observation_leaves_numbers():
    observations = np.float32(np.r_[1e30, np.linspace(-1.0, 1.0, 31)])[:, None]
    state, metrics = trained(loop_of(Episodes(observations, np.zeros((32, 1)))), 1)
    assert metrics["skipped"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.observation_statistics)))


@pytest.mark.without("jax_debug_nans")
def test_gradients_that_overflow_are_skipped():
    config = bc.Config(batch_size=16, hidden_sizes=(4,), normalize_observations=False)
    dataset = Episodes(np.ones((32, 1), np.float32), np.full((32, 1), 1e30, np.float32))
    algorithm = bc.make(dataset, bc.make_policy(1, Box(shape=(1,)), config), config)
    state = algorithm.init(jax.random.key(0))
    after, metrics = algorithm.step(state)
    assert metrics["skipped"] == 2
    same(state.params, after.params)


@pytest.mark.slow
def test_actions_at_the_edge_of_the_box_have_finite_scores():
    edges = recorded(32, 1)._replace(actions=np.where(np.arange(32) % 2, 1.0, -1.0).astype(np.float32)[:, None])
    for policy in KINDS_BY_NAME:
        _, metrics = trained(loop_of(edges, policy=policy), 3)
        assert metrics["skipped"] == 0
        assert np.isfinite(metrics["score"])


def test_the_best_policy_is_kept_and_the_training_ends_when_none_follows():
    """Actions that are noise: the score on the validation episodes soon falls while that of the others rises."""
    loop = loop_of(recorded(80, 10), hidden_sizes=(64,), learning_rate=0.02, patience=4)
    state = loop.init(jax.random.key(0))
    scores, kept = [], []
    while not loop.done(state):
        state, metrics = loop.step(state)
        scores.append(float(metrics["score"]))
        kept.append(state.learner.params)
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 4 < 50
    assert metrics["best_epoch"] == state.best.epoch == best + 1
    assert scores[-1] < scores[best] == float(state.best.score)
    same(state.params, kept[best])
    # Without patience nothing ends.
    assert not loop_of(recorded(80, 10)).done(state)

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax import normalize
from gaussjax.random.permutation import permutation
from gaussjax.training import bc

BOX = gaussjax.spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.slow
def test_recovers_the_mean_and_the_spread_of_a_noisy_teacher():
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (4096, 2)).astype(np.float32)
    # The teacher: mean 0.5·x₀, standard deviation 0.1 where x₁ < 0 and 0.4 where x₁ > 0.
    spread = np.where(seen[:, 1:] < 0, 0.1, 0.4)
    done = (0.5 * seen[:, :1] + spread * rng.normal(size=(4096, 1))).astype(np.float32)
    config = bc.Config(hidden_sizes=(32, 32), learning_rate=3e-3)
    algorithm = bc.make(bc.Dataset(seen, done), bc.make_policy(2, BOX, config), config)
    state = algorithm.init(jax.random.key(0))
    for _ in range(40):
        state, metrics = algorithm.step(state)
    assert metrics["step"] == 40
    places = np.array([[0.5, -0.5], [-0.5, -0.5], [0.5, 0.5]], np.float32)
    distribution, _ = algorithm.policy.apply(state.params, normalize.apply(state.observation_statistics, places))
    np.testing.assert_allclose(distribution.mean()[:, 0], [0.25, -0.25, 0.25], atol=0.06)
    np.testing.assert_allclose(distribution.stddev()[:, 0], [0.1, 0.1, 0.4], rtol=0.2)


def test_epoch_equals_one_written_by_hand():
    """Two gradient steps of nine pairs, four at a time: the likelihood, its weight and the bonus written out."""
    config = bc.Config(batch_size=4, hidden_sizes=(8,), entropy_coefficient=0.1, variance_weight=0.25)
    rng = np.random.default_rng(1)
    seen = rng.normal(3.0, 2.0, (9, 3)).astype(np.float32)
    done = rng.uniform(-1.0, 1.0, (9, 2)).astype(np.float32)
    policy = bc.make_policy(3, gaussjax.spaces.Box(-1.0, 1.0, (2,)), config)
    algorithm = bc.make(bc.Dataset(seen, done), policy, config)
    state = algorithm.init(jax.random.key(2))
    updated, metrics = algorithm.step(state)

    shown = (seen - seen.mean(0)) / seen.std(0)
    optimizer = optax.adam(config.learning_rate)

    @jax.jit
    @jax.grad
    def gradient(params, observations, actions):
        outputs = policy.apply(params, observations)[1]
        mean, log_std = outputs["mean_actions"], outputs["log_std"]
        density = jnp.prod(jnp.exp(-0.5 * ((actions - mean) / jnp.exp(log_std)) ** 2 - log_std) / (2 * np.pi) ** 0.5, 1)
        # Of two actions the geometric mean of the variances, to the power of a quarter.
        weight = jax.lax.stop_gradient(jnp.exp(log_std[:, 0] + log_std[:, 1]) ** 0.25)
        entropy = jnp.sum(log_std + 0.5 * np.log(2 * np.pi * np.e), 1)
        return -jnp.mean(weight * jnp.log(density)) - 0.1 * jnp.mean(entropy)

    @jax.jit
    def applied(params, moments, gradient):
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments

    expected, moments = state.params, optimizer.init(state.params)
    order = np.asarray(permutation(jax.random.split(state.key)[1], 9))
    for rows in (order[:4], order[4:8]):
        expected, moments = applied(expected, moments, gradient(expected, shown[rows], done[rows]))
    found = updated.params, updated.optimizer
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6), found, (expected, moments))
    assert metrics["skipped"] == 0


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
    policy = KINDS[name](network, 1, gaussjax.spaces.Box(-3.0, 5.0, (2,)), keepdims=False)
    rng = np.random.default_rng(0)
    seen, done = rng.normal(size=(8, 1)).astype(np.float32), rng.uniform(-3, 5, (8, 2)).astype(np.float32)
    algorithm = bc.make(bc.Dataset(seen, done), policy, config)
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
    dataset = bc.Dataset(np.zeros((32, 1)), np.zeros((32, 1)))
    getattr(dataset, column)[5] = value
    config = bc.Config(batch_size=16, hidden_sizes=(4,))
    with pytest.raises(ValueError, match=rf"dataset: {column}: expected finite numbers .* in row 5 \(1 of 32 rows\)"):
        bc.make(dataset, bc.make_policy(1, BOX, config), config)


@pytest.mark.slow
def test_a_huge_observation_leaves_numbers():
    observations = np.float32(np.r_[1e30, np.linspace(-1.0, 1.0, 31)])[:, None]
    config = bc.Config(batch_size=16, hidden_sizes=(4,))
    algorithm = bc.make(bc.Dataset(observations, np.zeros((32, 1))), bc.make_policy(1, BOX, config), config)
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert metrics["skipped"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, state.observation_statistics)))


def test_gradients_that_overflow_are_skipped():
    config = bc.Config(batch_size=16, hidden_sizes=(4,), normalize_observations=False)
    dataset = bc.Dataset(np.ones((32, 1), np.float32), np.full((32, 1), 1e30, np.float32))
    algorithm = bc.make(dataset, bc.make_policy(1, BOX, config), config)
    state = algorithm.init(jax.random.key(0))
    after, metrics = algorithm.step(state)
    assert metrics["skipped"] == 2
    jax.tree.map(np.testing.assert_array_equal, state.params, after.params)


def test_dataset_smaller_than_a_batch_is_refused():
    config = bc.Config(hidden_sizes=(4,))
    with pytest.raises(ValueError, match="at most the 3 pairs"):
        bc.make(bc.Dataset(np.zeros((3, 2)), np.zeros((3, 1))), bc.make_policy(2, BOX, config), config)

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.random.permutation import permutation
from gaussjax.training import ppo
from gaussjax.training.ppo.update import make_optimizer, make_update
from tests.training import probes

PROBE = {
    "num_envs": 16,
    "num_steps": 16,
    "batch_size": 64,
    "num_epochs": 4,
    "hidden_sizes": (16,),
    "learning_rate": 3e-3,
}


def trained(make, **options):
    config = ppo.Config(**{**PROBE, **options})
    environments = probes.vector(make, config.num_envs)
    algorithm = ppo.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    while state.steps < config.total_steps:
        state, metrics = algorithm.step(state)
    environments.close()
    return algorithm.policy, state, metrics


def outputs(policy, state, observations):
    seen = normalize.apply(state.observation_statistics, jnp.asarray(observations, jnp.float32))
    return policy.apply(state.params, seen)[1]


@pytest.mark.slow
def test_bandit_is_solved():
    policy, state, _ = trained(probes.Bandit, total_steps=20_000)
    np.testing.assert_allclose(outputs(policy, state, [[1.0]])["mean_actions"], [[0.5]], atol=0.1)


def test_credit_flows_back_to_the_first_of_two_actions():
    policy, state, _ = trained(probes.DelayedReward, total_steps=40_000)
    np.testing.assert_allclose(outputs(policy, state, [[0.0, 0.0]])["mean_actions"], [[-0.25]], atol=0.15)


@pytest.mark.parametrize(
    ("truncates", "value"),
    [
        # Cut short, the wages would go on: 1 + 0.5 + 0.25 + … = 2 everywhere.
        (True, 2.0),
        # Ended, a state five, four, … one step before the end is worth 1.9375, 1.875, 1.75, 1.5, 1.
        # They look the same, so the value function learns their mean, 1.6125.
        pytest.param(False, 1.6125, marks=pytest.mark.slow),
    ],
)
def test_value_goes_on_after_a_truncation_and_stops_at_a_termination(truncates, value):
    policy, state, _ = trained(
        lambda: probes.Wages(truncates), total_steps=40_000, gamma=0.5, gae_lambda=1.0, normalize_rewards=False
    )
    np.testing.assert_allclose(outputs(policy, state, [[1.0]])["value"], [value], atol=0.05)


def test_update_equals_a_plain_python_ppo():
    """The compiled update against the same algorithm written with Python loops."""
    config = ppo.Config(num_envs=2, num_steps=8, batch_size=4, num_epochs=2, hidden_sizes=(8,), total_steps=64)
    policy = ppo.make_policy(gaussjax.spaces.Box(shape=(3,)), gaussjax.spaces.Box(-1.0, 1.0, (2,)), config)
    optimizer = make_optimizer(config)
    params = policy.init(jax.random.key(1))
    rng = np.random.default_rng(0)
    observations, next_observations = rng.normal(size=(2, 8, 2, 3)).astype(np.float32)
    actions = rng.normal(size=(8, 2, 2)).astype(np.float32)
    rewards = rng.normal(size=(8, 2)).astype(np.float32)
    terminated, truncated = rng.random((8, 2)) < 0.2, rng.random((8, 2)) < 0.2
    resets = np.zeros((8, 2), bool)
    # Most samples are clipped; their density is that of the sample, not of what was done.
    done = np.clip(actions, -0.5, 0.5)
    taken = (observations, actions, done, rewards, terminated, truncated, next_observations, resets, ())
    experience = rollout.Rollout(*taken)
    epoch_keys = jax.random.split(jax.random.key(7), config.num_epochs)
    state = ppo.State(
        params,
        optimizer.init(params),
        jax.random.key(8),
        normalize.init((3,)),
        normalize.init(()),
        jnp.zeros(2),
        (),
        ppo.Hyperparameters.of(config),
        16,
    )
    updated, _ = jax.jit(make_update(policy, optimizer, config))(state, experience, epoch_keys)

    # Rewards: divided by the deviation of the discounted returns of this very rollout.
    running, returns = np.zeros(2), []
    for t in range(8):
        running = config.gamma * running + rewards[t]
        returns.append(running)
        running = np.where(terminated[t] | truncated[t], 0.0, running)
    scaled = rewards / np.std(returns)
    log_prob, _, seen = policy.evaluate(params, observations, raw_actions=actions)
    values, following = np.asarray(seen["value"]), np.asarray(policy.apply(params, next_observations)[1]["value"])
    advantages, later = np.zeros((8, 2)), np.zeros(2)
    for t in reversed(range(8)):
        error = scaled[t] + config.gamma * np.where(terminated[t], 0, following[t]) - values[t]
        later = error + config.gamma * config.gae_lambda * np.where(terminated[t] | truncated[t], 0, later)
        advantages[t] = later
    flat = [np.asarray(column).reshape(16, *column.shape[2:]) for column in (observations, actions, log_prob)]
    targets, old_values, advantages = (advantages + values).ravel(), values.ravel(), advantages.ravel()

    @jax.jit
    @jax.grad
    def gradient(params, observations, actions, log_prob, chosen, targets):
        new, _, seen = policy.evaluate(params, observations, raw_actions=actions)
        ratio = jnp.exp(new - log_prob)
        chosen = (chosen - chosen.mean()) / chosen.std()
        gain = jnp.minimum(ratio * chosen, jnp.clip(ratio, 0.8, 1.2) * chosen)
        return -jnp.mean(gain) + 0.5 * 0.5 * jnp.mean((seen["value"] - targets) ** 2)

    expected, moments = params, optimizer.init(params)
    for epoch_key in epoch_keys:
        order = np.asarray(permutation(epoch_key, 16))
        for start in range(0, 16, 4):
            rows = order[start : start + 4]
            found = gradient(expected, *(column[rows] for column in (*flat, advantages, targets)))
            updates, moments = optimizer.update(found, moments, expected)
            # A quarter of the 64 steps are done, so three quarters of the step size are left.
            updates = jax.tree.map(lambda update: -0.75 * config.learning_rate * update, updates)
            expected = optax.apply_updates(expected, updates)
    assert old_values.shape == (16,)
    found = updated.params, updated.optimizer
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), found, (expected, moments))


def test_same_seed_gives_the_same_training_and_another_seed_another():
    def first_updates(seed):
        config = ppo.Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=2, hidden_sizes=(8,))
        environments = envs.make_vector("Pendulum-v1", 4)
        algorithm = ppo.make(environments, config)
        state = algorithm.init(jax.random.key(seed))
        for _ in range(2):
            state, metrics = algorithm.step(state)
        environments.close()
        return state, metrics

    (one, metrics), (two, _), (three, _) = first_updates(0), first_updates(0), first_updates(1)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one.params, two.params)))
    kernel = one.params["params"]["actor"]["layers"]["dense_0"]["kernel"]
    assert not np.array_equal(kernel, three.params["params"]["actor"]["layers"]["dense_0"]["kernel"])
    assert one.steps == 128
    assert math.isfinite(metrics["policy_loss"])


def test_learning_rate_falls_to_zero_at_the_end():
    config = ppo.Config(num_envs=2, num_steps=8, batch_size=8, num_epochs=1, hidden_sizes=(8,), total_steps=32)
    environments = probes.vector(probes.Bandit, 2)
    algorithm = ppo.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    rates = []
    for _ in range(2):
        state, metrics = algorithm.step(state)
        rates.append(metrics["learning_rate"])
    beyond, _ = algorithm.step(state)
    environments.close()
    np.testing.assert_allclose(rates, [1e-3, 5e-4], rtol=1e-6)
    # The schedule has run out after total_steps: another update leaves the parameters as they are.
    jax.tree.map(np.testing.assert_array_equal, state.params, beyond.params)


@pytest.mark.parametrize("batch_size", [0, 100, 4096])
def test_batch_size_that_does_not_divide_is_refused(batch_size):
    with pytest.raises(ValueError, match=r"batch_size: expected a divisor of num_envs \* num_steps = 2048, got"):
        ppo.Config(batch_size=batch_size)


def test_another_number_of_environments_is_refused():
    environments = probes.vector(probes.Bandit, 2)
    with pytest.raises(ValueError, match="expected num_envs = 16, got 2"):
        ppo.make(environments, ppo.Config())
    environments.close()


@pytest.mark.slow
def test_pendulum_is_learnt_in_one_short_run():
    config = ppo.Config(total_steps=150_000)
    environments = envs.make_vector("Pendulum-v1", config.num_envs)
    algorithm = ppo.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    while state.steps < config.total_steps:
        state, _ = algorithm.step(state)
    environments.close()
    episodes = rollout.evaluate(
        algorithm.policy, state.params, "Pendulum-v1", normalizer=state.observation_statistics, seed=10_000
    )
    # A policy that does nothing gets about -1200; a swing-up and a balance about -150.
    assert np.mean(episodes.returns) >= -250

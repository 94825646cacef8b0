"""The update of PPO: it equals a plain one, ends early, and skips and counts gradients that are not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import gaussjax
from gaussjax import rollout, spaces
from gaussjax.random.permutation import permutation
from gaussjax.training import ppo
from gaussjax.training.ppo.config import initial_state
from gaussjax.training.ppo.samples import _scaled_rewards
from gaussjax.training.ppo.update import make_optimizer, make_update

CONFIG = ppo.Config(num_envs=2, num_steps=8, batch_size=4, num_epochs=2, hidden_sizes=(8,), total_steps=64)


def begun(config):
    """Policy, optimizer and the state after a quarter of the environment steps of `CONFIG`."""
    policy, optimizer = ppo.make_policy(3, spaces.Box(-1.0, 1.0, (2,)), config), make_optimizer(config)
    state = initial_state(policy.init(jax.random.key(1)), optimizer, jax.random.key(8), jnp.zeros(3), config)
    return policy, optimizer, state._replace(steps=16)


def _censored(config):
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP(config.hidden_sizes))
    options = {"clip_actions": True, "clipped_log_prob": "censored", "keepdims": False}
    return gaussjax.gaussian(network, 3, spaces.Box(-1.0, 1.0, (2,)), **options)


def experience(num_steps=8, num_envs=2, **changes):
    """Random experience; a change is an index and the value that is put there."""
    rng, shape = np.random.default_rng(0), (num_steps, num_envs)
    observations, following = rng.normal(size=(2, *shape, 3)).astype(np.float32)
    arrays = {
        "observations": observations,
        "raw_actions": rng.normal(size=(*shape, 2)).astype(np.float32),
        "rewards": rng.normal(size=shape).astype(np.float32),
        "terminated": rng.random(shape) < 0.2,
        "truncated": rng.random(shape) < 0.2,
        "next_observations": following,
        "resets": np.zeros(shape, bool),
    }
    for name, (where, value) in changes.items():
        arrays[name][where] = value
    # Some samples are clipped; their density is that of the sample, not of what was done.
    return rollout.Rollout(**arrays, actions=np.clip(arrays["raw_actions"], -1.0, 1.0), carries=())


@pytest.mark.without("jax_debug_key_reuse")
def test_update_equals_a_plain_python_ppo():
    """The compiled update against the same algorithm written with Python loops."""
    config = CONFIG
    policy, optimizer, state = begun(config)
    taken, params = experience(), state.params
    epoch_keys = jax.random.split(jax.random.key(7), config.num_epochs)
    update = jax.jit(make_update(policy, optimizer, config))
    updated, metrics = update(state, taken, epoch_keys)

    # Rewards: divided by the deviation of the discounted returns of this very rollout.
    running, returns = np.zeros(2), []
    for t in range(8):
        running = config.gamma * running + taken.rewards[t]
        returns.append(running)
        running = np.where(taken.terminated[t] | taken.truncated[t], 0.0, running)
    scaled = taken.rewards / np.std(returns)
    log_prob, _, seen = policy.evaluate(params, taken.observations, raw_actions=taken.raw_actions)
    values = np.asarray(seen["value"])
    following = np.asarray(policy.apply(params, taken.next_observations)[1]["value"])
    advantages, later = np.zeros((8, 2)), np.zeros(2)
    for t in reversed(range(8)):
        error = scaled[t] + config.gamma * np.where(taken.terminated[t], 0, following[t]) - values[t]
        ended = taken.terminated[t] | taken.truncated[t]
        later = error + config.gamma * config.gae_lambda * np.where(ended, 0, later)
        advantages[t] = later
    columns = taken.observations, taken.raw_actions, log_prob, advantages, advantages + values
    flat = [np.asarray(column).reshape(16, *column.shape[2:]) for column in columns]

    @jax.jit
    @jax.grad
    def gradient(params, observations, actions, log_prob, chosen, targets):
        new, _, seen = policy.evaluate(params, observations, raw_actions=actions)
        ratio = jnp.exp(new - log_prob)
        chosen = (chosen - chosen.mean()) / chosen.std()
        gain = jnp.minimum(ratio * chosen, jnp.clip(ratio, 0.8, 1.2) * chosen)
        return -jnp.mean(gain) + 0.5 * 0.5 * jnp.mean((seen["value"] - targets) ** 2)

    @jax.jit
    def applied(params, moments, gradient):
        updates, moments = optimizer.update(gradient, moments, params)
        # A quarter of the 64 steps are done, so three quarters of the step size are left.
        updates = jax.tree.map(lambda update: -0.75 * 1e-3 * update, updates)
        return optax.apply_updates(params, updates), moments

    expected, moments = params, optimizer.init(params)
    for epoch_key in epoch_keys:
        order = np.asarray(permutation(epoch_key, 16))
        for start in range(0, 16, 4):
            rows = order[start : start + 4]
            expected, moments = applied(expected, moments, gradient(expected, *(column[rows] for column in flat)))
    found = updated.params, updated.optimizer
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), found, (expected, moments))
    np.testing.assert_allclose(metrics["learning_rate"], 0.75e-3, rtol=1e-6)
    # The schedule has run out after total_steps: another update leaves the parameters as they are.
    beyond, _ = update(state._replace(steps=64), taken, epoch_keys)
    jax.tree.map(np.testing.assert_array_equal, beyond.params, params)
    # The fraction of actions at a bound, here of the samples outside of the Box.
    np.testing.assert_allclose(metrics["saturation"], np.mean(np.abs(taken.raw_actions) >= 1.0), rtol=1e-6)


EXPERIENCES = {
    "finite": (experience(), 0),
    # Nothing comes before the first step, so its infinite reward is in one advantage: one minibatch of each epoch.
    "one infinite reward": (experience(rewards=((0, 1), np.inf)), 2),
    "rewards of NaN": (experience(rewards=(..., np.nan)), 8),
    "observations of NaN": (experience(observations=(..., np.nan)), 8),
    "infinite actions": (experience(raw_actions=(..., np.inf)), 8),
}


@pytest.fixture(scope="module")
def population():
    """The state before an update, and the states and metrics of a population, in which each has its experience."""
    config = dataclasses.replace(CONFIG, normalize_rewards=False, initial_log_std=0.5)
    policy, optimizer, state = begun(config)
    taken = jax.tree.map(lambda *leaves: np.stack(leaves), *(taken for taken, _ in EXPERIENCES.values()))
    update = jax.jit(jax.vmap(make_update(policy, optimizer, config), in_axes=(None, 0, None)))
    with jax.debug_nans(False):
        after, metrics = update(state, taken, jax.random.split(jax.random.key(8), config.num_epochs))
    return jax.device_get((state._replace(key=()), after._replace(key=()), metrics))


@pytest.mark.parametrize("name", EXPERIENCES)
def test_gradients_that_are_not_finite_are_skipped_and_counted_and_leave_no_nan(population, name):
    index, skipped = list(EXPERIENCES).index(name), EXPERIENCES[name][1]
    before, *found = population
    after, metrics = jax.tree.map(lambda leaf: leaf[index], found)
    assert metrics["skipped"] == skipped
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    learnt = zip(*(jax.tree.leaves((state.params, state.optimizer)) for state in (before, after)), strict=True)
    assert any((old != new).any() for old, new in learnt) == (skipped < 8)
    # A mean over the steps that are taken, and of none NaN.
    assert np.isfinite([metrics["policy_loss"], metrics["gradient_norm"]]).all() == (skipped < 8)
    if skipped < 8:
        # Eight steps hardly move it from its first value.
        np.testing.assert_allclose(metrics["std"], np.exp(0.5), atol=0.02)


@pytest.mark.parametrize(("limit", "expected"), [(10.0, 10.0), (0.5, 0.5), (None, 1e4)])
def test_equal_returns_do_not_scale_rewards_beyond_the_limit(limit, expected):
    config = dataclasses.replace(CONFIG, clip_reward=limit)
    for sign in (1.0, -1.0):
        taken = experience(rewards=(..., sign), terminated=(..., True))
        rewards = _scaled_rewards(begun(config)[2], taken, config, None)[0]
        np.testing.assert_allclose(rewards, np.full((8, 2), sign * expected), rtol=1e-6)


@pytest.mark.slow
def test_a_sampled_entropy_has_the_gradient_of_the_exact_one_for_a_gaussian():
    """The reparametrised log-density of a Gaussian is that of its noise minus log_std."""
    results = []
    for entropy in ("exact", "sample"):
        options = {"entropy": entropy, "entropy_coefficient": 0.5, "batch_size": 16, "num_epochs": 1}
        config = dataclasses.replace(CONFIG, **options, initial_log_std=0.5)
        policy, optimizer, state = begun(config)
        results.append(
            jax.jit(make_update(policy, optimizer, config))(state, experience(), jax.random.split(state.key, 1))
        )
    (exact, metrics), (sampled, estimates) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), exact.params, sampled.params)
    # Two actions of standard deviation e^0.5.
    np.testing.assert_allclose(metrics["entropy"], 2 * (0.5 + 0.5 * np.log(2 * np.pi * np.e)), rtol=1e-6)
    # The mean over 16 samples of half a chi-square of two degrees has the deviation 1/4.
    assert 0.0 < abs(float(estimates["entropy"] - metrics["entropy"])) < 5 / 4


def test_a_censored_policy_is_rewarded_for_its_exact_entropy():
    """The density of a sample jumps where it meets the Box, so its derivative would lower the entropy here."""
    results = []
    for entropy in ("exact", "sample"):
        config = dataclasses.replace(CONFIG, entropy=entropy, entropy_coefficient=0.5, batch_size=16, num_epochs=1)
        policy, optimizer = (make(config) for make in (_censored, make_optimizer))
        state = initial_state(policy.init(jax.random.key(1)), optimizer, jax.random.key(8), jnp.zeros(3), config)
        update = jax.jit(make_update(policy, optimizer, config))
        results.append(update(state, experience(), jax.random.split(state.key, 1)))
    (exact, metrics), (sampled, estimates) = results
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), exact.params, sampled.params)
    np.testing.assert_allclose(metrics["entropy"], estimates["entropy"], rtol=1e-6)


@pytest.mark.slow
def test_target_kl_ends_an_update_early_and_the_step_size_follows_the_desired_kl():
    results, (policy, optimizer, before) = {}, begun(CONFIG)
    for name, target, desired in (("never", None, 1e3), ("far", 1e3, 1e3), ("near", 1e-9, 1e-9)):
        config = dataclasses.replace(CONFIG, target_kl=target, desired_kl=desired, anneal_learning_rate=False)
        update = jax.jit(make_update(policy, optimizer, config))
        results[name] = update(before, experience(), jax.random.split(jax.random.key(7), 2))
    near, metrics = results["near"]
    # The first minibatch has a divergence of zero; after its step every divergence is too large.
    assert metrics["gradient_steps"] == 1
    assert metrics["skipped"] == 0
    np.testing.assert_allclose(metrics["kl"], 0.0, atol=1e-9)
    assert results["far"][1]["gradient_steps"] == results["never"][1]["gradient_steps"] == 8
    jax.tree.map(np.testing.assert_array_equal, results["far"][0].params, results["never"][0].params)
    # One step of Adam moves a weight by at most the step size.
    moved = jax.tree.map(lambda old, new: float(np.abs(np.subtract(new, old)).max()), before.params, near.params)
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 1e-3, rtol=1e-3)
    assert int(near.optimizer[1].count) == 1
    # It changes after each of the two epochs.
    for name, factor in (("never", 1.5**2), ("near", 1.5**-2)):
        np.testing.assert_allclose(results[name][1]["learning_rate"], 1e-3 * factor, rtol=1e-5)


@pytest.mark.without("jax_disable_jit")
def test_an_order_is_computed_once_and_not_for_each_column():
    config = dataclasses.replace(CONFIG, num_envs=16, num_steps=32, batch_size=64)
    policy, optimizer, state = begun(config)
    arguments = state, experience(32, 16), jax.random.split(jax.random.key(7), 2)
    program = jax.jit(make_update(policy, optimizer, config)).lower(*arguments).compile().as_text()
    # A constant of the cipher that orders 512 samples and more: once for each of its two halves.
    assert program.count(f"constant({0x85EBCA6B})") == 2


def test_one_vector_of_parameters_needs_fewer_kernels(monkeypatch):
    """Holds as long as XLA does not fuse the arrays of an optimizer's step by itself."""

    def kernels(params):
        optimizer = make_optimizer(ppo.Config())

        def step(params, moments, gradients):
            updates, moments = optimizer.update(gradients, moments, params)
            return jax.tree.map(jnp.subtract, params, updates), moments

        program = jax.jit(step).lower(params, optimizer.init(params), params).compile().as_text()
        entry = program[program.index("ENTRY") :]
        return entry.count("calls=") + entry.count("to_apply=")

    params = ppo.make_policy(3, spaces.Box(-1.0, 1.0, (1,)), ppo.Config()).init(jax.random.key(0))
    one_vector = kernels(ravel_pytree(params)[0])
    monkeypatch.setattr(optax, "flatten", lambda optimizer: optimizer)
    assert one_vector < 0.5 * kernels(params)

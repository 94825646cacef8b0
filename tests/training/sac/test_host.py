import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax import envs, normalize, rollout
from gaussjax.training import replay, sac
from gaussjax.training.sac.update import make_learner
from tests.training import jax_probes, probes

SMALL = {"num_envs": 2, "num_steps": 250, "batch_size": 64, "learning_starts": 200, "buffer_size": 5000}


def trained(environments, **options):
    config = sac.Config(**{**SMALL, "hidden_sizes": (32,), "learning_rate": 3e-3, **options})
    algorithm = sac.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    while state.steps < config.total_steps:
        state, metrics = algorithm.step(state)
    return algorithm.policy, state, metrics


@pytest.mark.slow
def test_bandit_is_solved():
    environments = probes.vector(probes.Bandit, 2)
    policy, state, _ = trained(environments, total_steps=3000, target_entropy=-3.0)
    environments.close()
    action = policy.act(state.params, None, np.ones((1, 1), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[0.5]], atol=0.1)


@pytest.mark.slow
def test_credit_flows_back_to_the_first_of_two_actions():
    environments = probes.vector(probes.DelayedReward, 2)
    policy, state, _ = trained(environments, total_steps=6000, target_entropy=-2.0)
    environments.close()
    action = policy.act(state.params, None, np.zeros((1, 2), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[-0.25]], atol=0.2)


def test_compiled_environments_are_learnt_and_the_temperature_falls():
    def reset(key):
        return key, jnp.ones(1)

    def step(state, action):
        reward = -jnp.square(action[0] - 0.5)
        return envs.Step(state, jnp.ones(1), reward, jnp.asarray(True), jnp.asarray(False))

    box = gaussjax.spaces.Box(-1.0, 1.0, (1,))
    environment = envs.Environment(reset, step, gaussjax.spaces.Box(shape=(1,)), box)
    policy, state, metrics = trained(environment, total_steps=3000, target_entropy=-3.0)
    action = policy.act(state.params, None, np.ones((1, 1), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[0.5]], atol=0.1)
    assert metrics["temperature"] < 0.5
    assert metrics["episode_length"] == 1.0


@pytest.mark.slow
def test_temperature_falls_where_the_box_is_narrow():
    """Of a Box that is a tenth wide no density has an entropy of -1 nats per unit."""
    environment = jax_probes.bandit(0.05)
    policy, state, metrics = trained(environment, total_steps=4000)
    action = policy.act(state.params, None, np.ones((1, 1), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[0.025]], atol=0.01)
    assert metrics["temperature"] < 0.5


def test_gradient_step_equals_one_written_by_hand():
    """The three losses in one gradient against each loss alone, with the minibatch and the noise known."""
    config = sac.Config(hidden_sizes=(8,), batch_size=16, buffer_size=32)
    space = gaussjax.spaces.Box((-1.0, -2.0), (3.0, 2.0), (2,))
    policy = sac.make_policy(3, space, config)
    init, update = make_learner(policy, config)
    learner = jax.jit(init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    rows = sac.Transition(
        rng.normal(size=(32, 3)).astype(np.float32),
        rng.uniform([-1, -2], [3, 2], (32, 2)).astype(np.float32),
        rng.normal(size=32).astype(np.float32),
        rng.random(32) < 0.3,
        rng.normal(size=(32, 3)).astype(np.float32),
    )
    buffer = replay.add(replay.init(jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), rows), 32), rows)[0]
    key = jax.random.key(5)
    batch_key, noise_key = jax.random.split(key)
    now_key, next_key = jax.random.split(noise_key)
    batch = replay.sample(buffer, batch_key, 16)
    updated, metrics = jax.jit(update)(learner, (batch, noise_key), normalize.init((3,)))

    def critic(params, observations, actions):
        # Two dense layers by hand; the Box [-1, 3] x [-2, 2] has the middle (1, 0) and the half widths (2, 2).
        x = jnp.concatenate([observations, (actions - jnp.array([[1.0, 0.0]])) / 2.0], -1)
        layers = params["params"]
        hidden = jax.nn.relu(x @ layers["layers"]["dense_0"]["kernel"] + layers["layers"]["dense_0"]["bias"][None])
        return (hidden @ layers["value"]["kernel"] + layers["value"]["bias"][None])[:, 0]

    def each(params, i):
        return jax.tree.map(lambda leaf: leaf[i], params)

    @jax.jit
    def by_hand(learner, batch):
        following = policy.act(learner.actor, next_key, batch.next_observations)
        future = [critic(each(learner.targets, i), batch.next_observations, following.actions) for i in (0, 1)]
        soft = jnp.minimum(*future) - following.log_prob
        goal = batch.rewards + 0.99 * jnp.where(batch.terminated, 0.0, soft)

        def critic_loss(params):
            return sum(
                0.5 * jnp.mean((critic(each(params, i), batch.observations, batch.actions) - goal) ** 2) for i in (0, 1)
            )

        def actor_loss(params):
            acted = policy.act(params, now_key, batch.observations)
            worth = jnp.minimum(*(critic(each(learner.critics, i), batch.observations, acted.actions) for i in (0, 1)))
            return jnp.mean(acted.log_prob - worth)

        acted = policy.act(learner.actor, now_key, batch.observations)
        # d/dx of -exp(x)·mean(log_prob + target) at x = 0; minus the two actions, in units of their half widths.
        temperature_gradient = -jnp.mean(acted.log_prob + 2.0 * np.log(2.0) - 2.0)
        gradients = (jax.grad(actor_loss)(learner.actor), jax.grad(critic_loss)(learner.critics), temperature_gradient)
        learnt = (learner.actor, learner.critics, learner.log_temperature)
        optimizer = optax.adam(config.learning_rate)
        updates, moments = optimizer.update(gradients, optimizer.init(learnt), learnt)
        actor, critics, log_temperature = optax.apply_updates(learnt, updates)
        targets = jax.tree.map(lambda new, old: 0.005 * new + 0.995 * old, critics, learner.targets)
        # The bounds are one half width from the middle.
        at_bound = jnp.abs(acted.actions - jnp.array([[1.0, 0.0]])) / 2.0 >= 0.99
        # Adam's first step knows the signs of the gradients alone; its moments know their sizes.
        return sac.Learner(actor, critics, targets, log_temperature, moments), jnp.mean(at_bound)

    expected, at_bound = by_hand(learner, batch)
    np.testing.assert_allclose(metrics["saturation"], at_bound, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=3e-6), updated, expected)


@pytest.mark.parametrize("option", ["num_envs", "num_steps", "batch_size", "num_critics"])
def test_counts_below_one_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
        sac.Config(**{option: 0})


@pytest.mark.slow
def test_pendulum_is_solved():
    config = sac.Config(total_steps=12_000, learning_starts=1000, hidden_sizes=(64, 64), learning_rate=1e-3)
    environments = envs.make_vector("Pendulum-v1", 1)
    algorithm = sac.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    while state.steps < config.total_steps:
        state, _ = algorithm.step(state)
    environments.close()
    episodes = rollout.evaluate(algorithm.policy, state.params, "Pendulum-v1", seed=10_000)
    assert np.mean(episodes.returns) >= -200

"""A gradient step of SAC: it equals one written by hand, and is not taken where it is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax import normalize, spaces
from gaussjax.training import sac
from gaussjax.training.algorithm import promoting
from gaussjax.training.sac.update import make_learner

CONFIG = sac.Config(hidden_sizes=(8,))


@pytest.fixture(scope="module")
def made():
    """Policy, first learner and the compiled gradient step."""
    policy = sac.make_policy(3, spaces.Box((-1.0, -2.0), (3.0, 2.0), (2,)), CONFIG)
    init, update = make_learner(policy, CONFIG)
    return policy, jax.jit(init)(jax.random.key(0)), jax.jit(update)


def minibatch():
    rng = np.random.default_rng(0)
    return sac.Transition(
        rng.normal(size=(16, 3)).astype(np.float32),
        rng.uniform([-1, -2], [3, 2], (16, 2)).astype(np.float32),
        rng.normal(size=16).astype(np.float32),
        rng.random(16) < 0.3,
        rng.normal(size=(16, 3)).astype(np.float32),
    )


@pytest.mark.without("jax_debug_key_reuse")
def test_gradient_step_equals_one_written_by_hand(made):
    """The three losses in one gradient against each loss alone, with the minibatch and the noise known."""
    policy, learner, update = made
    noise_key = jax.random.key(5)
    now_key, next_key = jax.random.split(noise_key)
    batch = minibatch()
    updated, metrics = update(learner, (batch, noise_key), normalize.init((3,)))

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
        optimizer = promoting(optax.adam(CONFIG.learning_rate))
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


def test_a_censored_actor_follows_the_gradient_of_its_entropy():
    """By quadrature the entropy grows by 1.305 nats for each unit of the mean; the density of samples falls by 1.76."""
    network = gaussjax.networks.MLP((), output_activation=None, initial_log_std=float(np.log(0.2)))
    options = {"clip_actions": True, "clipped_log_prob": "censored", "keepdims": False}
    policy = gaussjax.gaussian(network, 3, spaces.Box(-1.0, 1.0, (1,)), **options)
    config = sac.Config(hidden_sizes=(8,), initial_temperature=1e6)
    init, update = make_learner(policy, config)
    learner = init(jax.random.key(0))
    # The mean is 0.9 for every observation.
    learner = learner._replace(
        actor=jax.tree_util.tree_map_with_path(
            lambda path, leaf: {"kernel": 0.0 * leaf, "bias": 0.9 + 0.0 * leaf}.get(path[-1].key, leaf), learner.actor
        )
    )
    batch = minibatch()._replace(actions=np.zeros((16, 1), np.float32), rewards=np.zeros(16, np.float32))
    (updated, _), before = jax.jit(update)(learner, (batch, jax.random.key(1)), normalize.init((3,))), learner.actor
    outputs = [policy.apply(actor, np.zeros(3, np.float32))[1]["mean_actions"] for actor in (before, updated.actor)]
    assert outputs[0] == pytest.approx(0.9)
    assert outputs[1] > outputs[0]


@pytest.mark.parametrize("reward", [np.nan, 1e38], ids=["NaN", "overflow"])
def test_gradient_that_is_not_finite_is_not_taken(made, reward):
    _, before, update = made
    rewards = np.full(16, reward, np.float32)
    after, metrics = update(before, (minibatch()._replace(rewards=rewards), jax.random.key(1)), normalize.init((3,)))
    assert metrics["skipped"] == 1.0
    assert np.isfinite(jax.tree.leaves(metrics)).all()
    jax.tree.map(np.testing.assert_array_equal, before, after)
    after, metrics = update(before, (minibatch(), jax.random.key(1)), normalize.init((3,)))
    assert metrics["skipped"] == 0.0
    assert any((old != new).any() for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True))

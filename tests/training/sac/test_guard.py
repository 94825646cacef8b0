"""What holds NaN is neither learnt from nor remembered, by SAC and by cloning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, normalize
from gaussjax.training import bc, sac
from gaussjax.training.run import checkpoint
from gaussjax.training.run import loop as run
from gaussjax.training.sac.update import make_learner
from tests.training import probes

CONFIG = sac.Config(
    num_envs=2,
    num_steps=8,
    batch_size=4,
    learning_starts=2,
    buffer_size=64,
    hidden_sizes=(8,),
    normalize_observations=True,
)
BOX = gaussjax.spaces.Box(-1.0, 1.0, (1,))


def finite(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    return all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)


def same(one, two):
    return all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


@pytest.fixture(scope="module")
def learner():
    init, update = make_learner(sac.make_policy(1, BOX, CONFIG), CONFIG)
    return jax.jit(init)(jax.random.key(0)), jax.jit(update)


@pytest.mark.parametrize("reward", [np.nan, 1e38], ids=["NaN", "overflow"])
def test_gradient_that_is_not_finite_is_not_taken(learner, reward):
    before, update = learner
    rows = sac.Transition(
        jnp.zeros((64, 1)), jnp.zeros((64, 1)), jnp.full(64, reward), jnp.ones(64, bool), jnp.zeros((64, 1))
    )
    after, metrics = update(before, (rows, jax.random.key(1)), normalize.init((1,)))
    assert metrics["skipped"] == 1.0
    assert finite(metrics)
    assert same(before, after)
    after, metrics = update(before, (rows._replace(rewards=jnp.ones(64)), jax.random.key(1)), normalize.init((1,)))
    assert metrics["skipped"] == 0.0
    assert not same(before, after)


def test_transitions_that_hold_nan_leave_no_trace():
    """Every fourth step of each episode of eight is broken, in the reward, in what is seen, or in both."""

    def reset(key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(state, action):
        count = state + 1.0
        seen = jnp.where(count == 4.0, jnp.nan, count).reshape(1)
        return envs.Step(count, seen, jnp.where(count == 8.0, jnp.inf, 1.0), jnp.asarray(False), count == 8.0)

    environment = envs.Environment(reset, step, gaussjax.spaces.Box(shape=(1,)), BOX)
    algorithm = sac.make(environment, CONFIG)
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    # Of the eight steps of two environments: the one to NaN, the one from it, and the one with the infinite reward.
    assert metrics["refused"] == 2 * 3
    assert metrics["skipped"] == 0
    assert state.buffer.added == 2 * 5
    assert finite((state.learner, state.buffer, state.observation_statistics, metrics["critic_loss"]))
    # A step from NaN leaves the statistics as they are; there was one, of both environments.
    assert state.observation_statistics.count == 2 * 7


class Poisoned(probes.Bandit):
    """Pays so much after some steps that the loss overflows."""

    steps = 0

    def step(self, action):
        self.steps += 1
        observation, reward, *rest = super().step(action)
        return observation, 1e38 if self.steps > 16 else reward, *rest


def test_training_stops_after_gradients_that_are_not_finite_and_keeps_the_last_good_state(tmp_path):
    folder = tmp_path / "run"
    algorithm = sac.make(probes.vector(Poisoned, 2), CONFIG)
    run.start(folder, {"normalize_observations": True})
    state = algorithm.init(jax.random.key(0))
    with pytest.raises(run.TrainingError, match="got NaN or infinity in 3 updates in a row"):
        run.train(folder, algorithm, state, {}, total_steps=10_000, checkpoint_every=1, max_skipped=3)
    good = checkpoint.load(folder, algorithm.init(jax.random.key(0))).state
    assert good.steps == 2 * 16
    assert finite(gaussjax.load(folder / run.POLICY).params)


def test_cloning_skips_gradients_that_overflow():
    config = bc.Config(batch_size=16, hidden_sizes=(4,), normalize_observations=False)
    dataset = bc.Dataset(np.ones((32, 1), np.float32), np.full((32, 1), 1e30, np.float32))
    algorithm = bc.make(dataset, bc.make_policy(1, BOX, config), config)
    state = algorithm.init(jax.random.key(0))
    after, metrics = algorithm.step(state)
    assert metrics["skipped"] == 2
    assert same(state.params, after.params)

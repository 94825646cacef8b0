"""SAC on environments of the host, and as one compiled program on JAX environments."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gaussjax import envs, rollout, spaces
from gaussjax.training import sac
from tests.training import jax_probes, probes

SMALL = {"num_envs": 2, "num_steps": 250, "batch_size": 64, "learning_starts": 200, "buffer_size": 5000}
CONFIG = sac.Config(**SMALL, hidden_sizes=(32,), learning_rate=3e-3)
SOLVED = {
    "compiled": (lambda: jax_probes.bandit(1.0), {"total_steps": 3000, "target_entropy": -3.0}, 0.5, 0.1),
    "bandit": (lambda: probes.vector(probes.Bandit, 2), {"total_steps": 3000, "target_entropy": -3.0}, 0.5, 0.1),
    # Of a Box that is a tenth wide no density has an entropy of -1 nats per unit.
    "narrow": (lambda: jax_probes.bandit(0.05), {"total_steps": 4000}, 0.025, 0.01),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVED)
def test_bandit_is_solved_and_the_temperature_falls(name):
    make, options, best, atol = SOLVED[name]
    policy, state, metrics = probes.trained(sac, make(), CONFIG, **options)
    action = policy.act(state.params, None, np.ones((1, 1), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[best]], atol=atol)
    assert metrics["temperature"] < 0.5
    assert metrics["episode_length"] == 1.0


@pytest.mark.slow
def test_credit_flows_back_to_the_first_of_two_actions():
    environments = probes.vector(probes.DelayedReward, 2)
    policy, state, _ = probes.trained(sac, environments, CONFIG, total_steps=6000, target_entropy=-2.0)
    action = policy.act(state.params, None, np.zeros((1, 2), np.float32), deterministic=True).actions
    np.testing.assert_allclose(action, [[-0.25]], atol=0.2)


@pytest.mark.slow
def test_transitions_that_hold_nan_leave_no_trace():
    """Every fourth step of each episode of eight is broken, in the reward, in what is seen, or in both."""

    def step(state, action):
        count = state + 1.0
        seen = jnp.where(count == 4.0, jnp.nan, count).reshape(1)
        return envs.Step(count, seen, jnp.where(count == 8.0, jnp.inf, 1.0), jnp.asarray(False), count == 8.0)

    environment = envs.Environment(
        lambda key: (jnp.zeros(()), jnp.zeros(1)), step, spaces.Box(shape=(1,)), jax_probes.UNIT
    )
    options = {"num_envs": 2, "num_steps": 8, "batch_size": 4, "learning_starts": 2, "buffer_size": 64}
    config = sac.Config(**options, hidden_sizes=(8,), normalize_observations=True, total_steps=16)
    _, state, metrics = probes.trained(sac, environment, config)
    # Of the eight steps of two environments: the one to NaN, the one from it, and the one with the infinite reward.
    assert metrics["refused"] == 2 * 3
    assert metrics["skipped"] == 0
    assert state.buffer.added == 2 * 5
    kept = state.learner, state.buffer, state.observation_statistics, metrics["critic_loss"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    # A step from NaN leaves the statistics as they are; there was one, of both environments.
    assert state.observation_statistics.count == 2 * 7


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: jax_probes.bandit(3.0), lambda: probes.vector(probes.Bandit, 2)])
def test_first_actions_are_uniform_and_metrics_without_a_gradient_step_are_zero(make):
    config = dataclasses.replace(CONFIG, num_steps=400, learning_starts=802, total_steps=803)
    algorithm = sac.make(environments := make(), config)
    state, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    half = float(spaces.bounds(algorithm.policy.spec.action_space)[1][0])
    actions = np.asarray(state.buffer.rows.actions[:800, 0])
    assert stats.kstest((actions + half) / (2.0 * half), "uniform").pvalue > 1e-3
    assert [float(metrics[name]) for name in ("gradient_steps", "temperature", "critic_loss", "std")] == [0.0] * 4
    state, metrics = algorithm.step(state)
    # On the host, the gradient steps after a step of the environments run during the next one.
    assert metrics["gradient_steps"] == 400 - (algorithm.runner is not None)
    assert metrics["temperature"] > 0.0
    if algorithm.runner is not None:
        environments.close()


@pytest.mark.slow
def test_pendulum_is_solved():
    config = sac.Config(total_steps=12_000, learning_starts=1000, hidden_sizes=(64, 64), learning_rate=1e-3)
    policy, state, _ = probes.trained(sac, envs.make_vector("Pendulum-v1", 1), config)
    episodes = rollout.evaluate(policy, state.params, "Pendulum-v1", seed=10_000)
    assert np.mean(episodes.returns) >= -200

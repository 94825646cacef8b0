"""Gradients that are not finite are skipped and counted, and nothing that is carried ever holds NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import normalize, rollout
from gaussjax.training import ppo
from gaussjax.training.ppo.update import make_optimizer, make_update

CONFIG = ppo.Config(num_envs=2, num_steps=8, batch_size=4, num_epochs=3, hidden_sizes=(8,), normalize_rewards=False)


@pytest.fixture(scope="module")
def update():
    policy = ppo.make_policy(gaussjax.spaces.Box(shape=(3,)), gaussjax.spaces.Box(-1.0, 1.0, (2,)), CONFIG)
    optimizer = make_optimizer(CONFIG)
    params = policy.init(jax.random.key(1))
    statistics = normalize.update(normalize.init((3,)), jnp.arange(6.0).reshape(2, 3))
    state = ppo.State(
        params,
        optimizer.init(params),
        jax.random.key(7),
        statistics,
        normalize.update(normalize.init(()), jnp.arange(2.0)),
        jnp.zeros(2),
        (),
        ppo.Hyperparameters.of(CONFIG),
        16,
    )
    epoch_keys = jax.random.split(jax.random.key(8), CONFIG.num_epochs)
    return jax.jit(partial(make_update(policy, optimizer, CONFIG), epoch_keys=epoch_keys)), state


def experience(**changes):
    rng = np.random.default_rng(0)
    observations, following = rng.normal(size=(2, 8, 2, 3)).astype(np.float32)
    arrays = {
        "observations": observations,
        "raw_actions": rng.normal(size=(8, 2, 2)).astype(np.float32),
        "rewards": rng.normal(size=(8, 2)).astype(np.float32),
        "terminated": np.ones((8, 2), bool),
        "truncated": np.zeros((8, 2), bool),
        "next_observations": following,
        "resets": np.ones((8, 2), bool),
    }
    for name, (where, value) in changes.items():
        arrays[name] = arrays[name].copy()
        arrays[name][where] = value
    return rollout.Rollout(**arrays, actions=arrays["raw_actions"], carries=())


def carried(state):
    return [
        leaf for leaf in jax.tree.leaves(state._replace(key=())) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    ]


def changed(before, after):
    return any(bool((a != b).any()) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def test_nothing_is_skipped_where_all_is_finite(update):
    step, state = update
    _, metrics = step(state, experience())
    assert metrics["skipped"] == 0
    # Twelve steps hardly move it from 1: it is a mean over those that are taken.
    np.testing.assert_allclose(metrics["std"], 1.0, atol=0.02)


def test_one_bad_sample_costs_one_gradient_step_an_epoch(update):
    step, state = update
    # Nothing comes before the first step, so its infinite reward is in one advantage: one minibatch of each epoch.
    after, metrics = step(state, experience(rewards=((0, 1), np.inf)))
    assert metrics["skipped"] == CONFIG.num_epochs
    np.testing.assert_allclose(metrics["std"], 1.0, atol=0.02)
    assert np.isfinite(metrics["policy_loss"])
    assert np.isfinite(metrics["gradient_norm"])
    assert all(np.isfinite(leaf).all() for leaf in carried(after))
    assert changed(state.params, after.params)


@pytest.mark.parametrize(
    "changes",
    [{"rewards": (..., np.nan)}, {"observations": (..., np.nan)}, {"raw_actions": (..., np.inf)}],
    ids=["rewards", "observations", "actions"],
)
def test_an_experience_without_a_number_changes_nothing(update, changes):
    step, state = update
    after, metrics = step(state, experience(**changes))
    assert metrics["skipped"] == CONFIG.num_epochs * 4
    assert np.isnan(metrics["policy_loss"])
    assert not changed((state.params, state.optimizer), (after.params, after.optimizer))
    assert all(np.isfinite(leaf).all() for leaf in carried(after))


def test_guard_works_in_a_population(update):
    step, state = update
    good, bad = experience(), experience(rewards=(..., np.nan))
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), good, bad)
    after, metrics = jax.vmap(step, in_axes=(None, 0))(state, both)
    np.testing.assert_array_equal(metrics["skipped"], [0, CONFIG.num_epochs * 4])
    second = jax.tree.map(lambda leaf: leaf[1], after.params)
    assert not changed(state.params, second)

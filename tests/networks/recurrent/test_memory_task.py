"""A cue is shown once and must be repeated twenty steps later: only a policy with a memory can."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gaussjax
from gaussjax.networks import GRU, LSTM, MLP, MinGRU

DELAY = 20
BATCH = 128
UPDATES = 150


def episodes(key):
    """Two episodes of DELAY + 1 steps in a row: observations (cue, is it time?), the targets and the resets."""
    cues = jnp.sign(jax.random.uniform(key, (2, BATCH), minval=-1.0))
    steps = DELAY + 1
    shown = jnp.zeros((2, steps, BATCH)).at[:, 0].set(cues).reshape(2 * steps, BATCH)
    asked = jnp.zeros((2, steps, BATCH)).at[:, -1].set(1.0).reshape(2 * steps, BATCH)
    targets = jnp.repeat(cues, steps, 0)[..., None]
    resets = jnp.zeros((2 * steps, BATCH), bool).at[steps].set(True)
    return jnp.stack([shown, asked], -1), targets, asked, resets


def train(network):
    """The mean squared error of the deterministic answers after training by log-likelihood."""
    policy = gaussjax.gaussian(network, 2, gaussjax.spaces.Box(shape=(1,)))
    optimiser = optax.adam(1e-2)
    recurrent = bool(jax.tree.leaves(policy.initial_carry()))

    def memory(resets):
        return {"carry": policy.initial_carry((BATCH,)), "resets": resets} if recurrent else {}

    def loss(params, key):
        observations, targets, asked, resets = episodes(key)
        log_prob = policy.evaluate(params, observations, targets, **memory(resets)).log_prob[..., 0]
        return -jnp.sum(log_prob * asked) / jnp.sum(asked)

    def update(state, key):
        params, moments = state
        updates, moments = optimiser.update(jax.grad(loss)(params, key), moments)
        return (optax.apply_updates(params, updates), moments), None

    @jax.jit
    def run(key):
        params = policy.init(key)
        (params, _), _ = jax.lax.scan(update, (params, optimiser.init(params)), jax.random.split(key, UPDATES))
        observations, targets, asked, resets = episodes(jax.random.key(99))
        distribution, _ = policy.apply(params, observations, **memory(resets))
        return jnp.sum(jnp.square(distribution.mean() - targets)[..., 0] * asked) / jnp.sum(asked)

    return float(run(jax.random.key(0)))


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(GRU(hidden_size=16, sizes=(16,)), marks=pytest.mark.slow),
        pytest.param(LSTM(hidden_size=16, sizes=(16,), memory_steps=40), marks=pytest.mark.slow),
        pytest.param(MinGRU(hidden_size=16, num_layers=2, sizes=(16,), memory_steps=40), marks=pytest.mark.slow),
    ],
    ids=lambda network: type(network).__name__,
)
def test_a_recurrent_policy_recalls_the_cue(network):
    assert train(network) < 0.05


@pytest.mark.slow
def test_a_policy_without_memory_does_not():
    assert train(MLP((16, 16))) > 0.9


def test_the_cue_is_gone_when_it_is_asked_for():
    observations, targets, asked, _ = episodes(jax.random.key(0))
    at_the_end = np.asarray(observations)[np.asarray(asked, bool)]
    np.testing.assert_array_equal(at_the_end[:, 0], 0.0)
    assert abs(float(targets.mean())) < 0.3

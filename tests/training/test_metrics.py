"""Metrics are a mapping and a pytree of two arrays, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

from gaussjax import envs
from gaussjax.training import bc, ppo, sac
from gaussjax.training.metrics import Metrics

NAMED = {
    "step": jnp.asarray(2**24 + 1),
    "entropy": jnp.asarray(1.5),
    "skipped": jnp.asarray(3),
    "kl": jnp.asarray(0.25),
}
PENDULUM = envs.from_functional(PendulumFunctional(), max_steps=200)
PPO = ppo.Config(num_envs=2, num_steps=8, batch_size=8, num_epochs=1, hidden_sizes=(4,))
SAC = sac.Config(num_steps=4, batch_size=4, learning_starts=2, buffer_size=16, hidden_sizes=(4,))
CLONING = bc.Config(batch_size=4)
DATA = bc.Dataset(np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32))


def test_numbers_come_back_exactly():
    metrics = Metrics.of(NAMED)
    assert {name: value.item() for name, value in metrics.items()} == {name: NAMED[name].item() for name in NAMED}
    assert metrics["step"].dtype == jnp.int32
    assert metrics["kl"].dtype == jnp.float32


def test_a_kind_that_is_not_there_is_empty():
    assert dict(Metrics.of({"kl": jnp.asarray(0.5)})) == {"kl": 0.5}
    assert dict(Metrics.of({"step": jnp.asarray(5)})) == {"step": 5}


def test_transformations_add_leading_axes():
    def scaled(factor):
        return Metrics.of({name: value * factor for name, value in NAMED.items()})

    factors = jnp.arange(1, 7).reshape(2, 3)
    metrics = jax.jit(jax.vmap(lambda row: jax.lax.map(scaled, row)))(factors)
    np.testing.assert_array_equal(metrics["skipped"], 3 * factors)
    np.testing.assert_array_equal(metrics["entropy"], 1.5 * factors)
    last = jax.tree.map(lambda leaf: leaf[-1, -1], metrics)
    assert last["kl"] == 6 * 0.25


def test_an_unknown_name_is_told_with_those_there_are():
    with pytest.raises(KeyError, match="metrics: expected one of step, skipped, entropy, kl, got 'loss'"):
        Metrics.of(NAMED)["loss"]
    assert "loss" not in Metrics.of(NAMED)


MADE = {
    "ppo": lambda: ppo.make(PENDULUM, PPO),
    "sac": lambda: sac.make(PENDULUM, SAC),
    "bc": lambda: bc.make(DATA, bc.make_policy(3, PENDULUM.action_space, CLONING), CLONING),
}


@pytest.mark.parametrize("name", MADE)
def test_a_compiled_step_tells_two_arrays(name):
    algorithm = MADE[name]()
    _, metrics = algorithm.step(algorithm.init(jax.random.key(0)))
    assert [leaf.ndim for leaf in jax.tree.leaves(metrics)] == [1, 1]
    assert metrics["step"].dtype == jnp.int32
    assert metrics["skipped"] == 0

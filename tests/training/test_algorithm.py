"""What every training algorithm asks of a policy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs
from gaussjax.training import bc, ppo, sac

BOX = gaussjax.spaces.Box(-2.0, 2.0, (1,))


@pytest.mark.parametrize("options", [{}, {"keepdims": False, "reduction": "none"}])
def test_log_densities_that_would_broadcast_are_refused(options):
    policy = gaussjax.gaussian(gaussjax.networks.ActorCritic(gaussjax.networks.MLP((8,))), 3, BOX, **options)
    squashed = gaussjax.squashed_gaussian(gaussjax.networks.MLP((8,)), 3, BOX, **options)
    environments = envs.make_vector("Pendulum-v1", 2)
    dataset = bc.Dataset(np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32))
    message = "policy: expected log-densities"
    with pytest.raises(ValueError, match=message):
        ppo.make(environments, ppo.Config(num_envs=2, num_steps=8, batch_size=8), policy)
    with pytest.raises(ValueError, match=message):
        sac.make(environments, sac.Config(num_envs=2), squashed)
    with pytest.raises(ValueError, match=message):
        bc.make(dataset, policy, bc.Config(batch_size=4))
    environments.close()


def test_a_policy_without_a_value_is_refused_by_ppo():
    environments = envs.make_vector("Pendulum-v1", 2)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, BOX, keepdims=False)
    algorithm = ppo.make(environments, ppo.Config(num_envs=2, num_steps=8, batch_size=8), policy)
    with pytest.raises(ValueError, match="Put its network into"):
        algorithm.step(algorithm.init(jax.random.key(0)))
    environments.close()


@pytest.mark.parametrize(
    ("key", "came"), [(0, "0|an array of type int32"), (jax.random.split(jax.random.key(0), 3), "3 keys in an array")]
)
def test_a_training_begins_with_one_key(key, came):
    options = {"num_envs": 2, "num_steps": 8, "batch_size": 8}
    environments = envs.make_vector("Pendulum-v1", 2)
    environment = envs.from_functional(PendulumFunctional(), max_steps=200)
    dataset = bc.Dataset(np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32))
    cloning = bc.Config(batch_size=4)
    algorithms = [
        algorithm.make(where, algorithm.Config(**options))
        for algorithm in (ppo, sac)
        for where in (environments, environment)
    ]
    for algorithm in (*algorithms, bc.make(dataset, bc.make_policy(3, BOX, cloning), cloning)):
        with pytest.raises(TypeError, match=f"key: expected one PRNG key, got ({came}).* Make one with jax.random.key"):
            algorithm.init(key)
    environments.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (ppo.Config, "entropy_coefficient"),
        (ppo.Config, "learning_rate"),
        (sac.Config, "target_entropy"),
        (sac.Config, "initial_temperature"),
        (bc.Config, "variance_weight"),
    ],
)
def test_options_that_are_no_finite_numbers_are_refused(config, name, value):
    with pytest.raises(ValueError, match=rf"{name}: expected a finite number, got {value}\."):
        config(**{name: float(value)})


def test_options_with_which_nothing_would_be_learnt_are_refused():
    with pytest.raises(ValueError, match="desired_kl: expected several gradient steps an update, got one"):
        ppo.Config(num_envs=2, num_steps=8, batch_size=16, num_epochs=1, desired_kl=0.01)
    with pytest.raises(ValueError, match="batch_size: expected 2 or more with normalize_advantages, got 1"):
        ppo.Config(batch_size=1)
    ppo.Config(batch_size=1, normalize_advantages=False)


def test_sac_refuses_a_policy_of_an_open_box():
    environment = envs.from_functional(PendulumFunctional(), max_steps=200)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)), keepdims=False)
    with pytest.raises(ValueError, match=r"policy: expected actions of a Box with finite bounds, got \[-inf\]"):
        sac.make(environment, sac.Config(num_envs=2), policy)

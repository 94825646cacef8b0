"""What every training algorithm asks of a policy."""

import jax
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs
from gaussjax.training import bc, ppo, sac

BOX = gaussjax.spaces.Box(-2.0, 2.0, (1,))
ENVIRONMENT = envs.from_functional(PendulumFunctional(), max_steps=200)
DATASET = bc.Dataset(np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32))


LOOPS = {
    "ppo": lambda policy: ppo.make(ENVIRONMENT, ppo.Config(num_envs=2, num_steps=8, batch_size=8), policy),
    "sac": lambda policy: sac.make(
        ENVIRONMENT, sac.Config(num_envs=2, num_steps=4, batch_size=4, learning_starts=2, buffer_size=16), policy
    ),
    "bc": lambda policy: bc.make(DATASET, policy, bc.Config(batch_size=4)),
}


def policy_of(name, **options):
    actor = gaussjax.networks.MLP((8,), output_activation=None)
    if name == "ppo":
        return gaussjax.gaussian(gaussjax.networks.ActorCritic(actor), 3, BOX, **options)
    return (gaussjax.squashed_gaussian if name == "sac" else gaussjax.gaussian)(actor, 3, BOX, **options)


@pytest.mark.parametrize("reduction", ["mean", "prod", "none"])
@pytest.mark.parametrize("name", LOOPS)
def test_log_densities_that_are_no_sums_are_refused(name, reduction):
    with pytest.raises(ValueError, match=f"policy: expected log-densities summed over the actions, got .*{reduction}"):
        LOOPS[name](policy_of(name, reduction=reduction))


@pytest.mark.parametrize("name", LOOPS)
def test_both_shapes_of_a_sum_train_alike(name):
    """A trailing axis of keepdims would broadcast among advantages."""
    states = []
    for keepdims in (True, False):
        loop = LOOPS[name](policy_of(name, keepdims=keepdims))
        state, metrics = loop.step(loop.init(jax.random.key(0)))
        assert metrics["skipped"] == 0
        states.append(state.params)
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6), *states)


def test_ppo_refuses_the_density_of_clipped_actions():
    clipped = {"clip_actions": True, "clipped_log_prob": "density"}
    with pytest.raises(ValueError, match="the gradient would be biased"):
        LOOPS["ppo"](policy_of("ppo", **clipped))
    LOOPS["ppo"](policy_of("ppo", **clipped | {"clipped_log_prob": "censored"}))


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
    cloning = bc.Config(batch_size=4)
    algorithms = [
        algorithm.make(where, algorithm.Config(**options))
        for algorithm in (ppo, sac)
        for where in (environments, ENVIRONMENT)
    ]
    for algorithm in (*algorithms, bc.make(DATASET, bc.make_policy(3, BOX, cloning), cloning)):
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
    for name in ("desired_kl", "target_kl"):
        with pytest.raises(ValueError, match=f"{name}: expected several gradient steps an update, got one"):
            ppo.Config(num_envs=2, num_steps=8, batch_size=16, num_epochs=1, **{name: 0.01})
    with pytest.raises(ValueError, match="batch_size: expected 2 or more with normalize_advantages, got 1"):
        ppo.Config(batch_size=1)
    ppo.Config(batch_size=1, normalize_advantages=False)


def test_sac_refuses_a_policy_of_an_open_box():
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
    with pytest.raises(ValueError, match=r"policy: expected actions of a Box with finite bounds, got \[-inf\]"):
        sac.make(ENVIRONMENT, sac.Config(num_envs=2), policy)

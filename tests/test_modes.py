"""JAX's own modes: trainings and policies run in each of them, and their numbers stay finite."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs, networks
from gaussjax.data import Episodes
from gaussjax.training import bc, ppo, sac
from tests.policies import as_type


@contextlib.contextmanager
def option(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


MODES = {
    "jax_debug_nans": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_enable_x64": True,
    "jax_check_tracer_leaks": True,
    "jax_debug_key_reuse": True,
    "jax_disable_jit": True,
}
BOX = gaussjax.spaces.Box(-1.0, 1.0, (2,))
SHORT = {"num_envs": 2, "num_steps": 4, "hidden_sizes": (4,)}
PPO = ppo.Config(**SHORT, batch_size=4, num_epochs=1)
LSTM = ppo.Config(**SHORT, batch_size=4, num_epochs=1, network="lstm", recurrent_size=4, sequence_length=2)
# Learns in the second update only. No episode ends in the first one.
SAC = sac.Config(**SHORT, batch_size=2, learning_starts=10, buffer_size=16)
BC = bc.Config(batch_size=4, hidden_sizes=(4,), validation_share=0.5)
CLONED = {"network": "lstm", "recurrent_size": 4, "sequence_length": 2, "burn_in": 1}


def pendulum():
    return envs.from_functional(PendulumFunctional(), max_steps=6)


def cloning(**options):
    observations, config = (
        np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(8, 3),
        dataclasses.replace(BC, **options),
    )
    episodes = Episodes(observations, observations[:, :2], np.arange(8) % 4 == 0)
    return bc.make(episodes, bc.make_policy(3, BOX, config), config)


LOOPS = {
    "ppo": lambda: ppo.make(pendulum(), PPO),
    "ppo with an LSTM": lambda: ppo.make(pendulum(), LSTM),
    "sac": lambda: sac.make(pendulum(), SAC),
    "bc": cloning,
    "bc with an LSTM": lambda: cloning(**CLONED),
    "ppo on the host": lambda: ppo.make(envs.make_vector("Pendulum-v1", 2, max_episode_steps=6), PPO),
}
QUICK = (("jax_debug_nans", "bc"), ("jax_numpy_dtype_promotion", "bc"))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        pytest.param(mode, name, marks=() if (mode, name) in QUICK else pytest.mark.slow)
        for mode in MODES
        for name in LOOPS
    ],
)
def test_two_updates_are_finite_in_each_mode_of_jax(mode, name):
    with option(mode, MODES[mode]):
        loop = LOOPS[name]()
        state = loop.init(jax.random.key(0))
        for _ in range(2):
            state, metrics = loop.step(state)
            assert all(np.isfinite(float(value)) for value in metrics.values())
            assert metrics["skipped"] == 0
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    if loop.runner is not None:
        loop.runner.environments.close()


NETWORKS = {
    "float32": (networks.MLP((4,)), jnp.float32),
    "a trunk in bfloat16": (networks.MLP((4,), std="state", dtype="bfloat16"), jnp.float32),
    "all in bfloat16": (networks.MLP((4,), std="state"), jnp.bfloat16),
    "a recurrent trunk in bfloat16": (networks.MinGRU(4, dtype="bfloat16"), jnp.float32),
    "a MinGRU in bfloat16": (networks.MinGRU(4), jnp.bfloat16),
    "an LSTM and a GRU in bfloat16": (networks.ActorCritic(networks.LSTM(4), critic=networks.GRU(4)), jnp.bfloat16),
    "a graph in bfloat16": (networks.Graph([{"name": "past", "layers": [{"gru": 3}]}], value="past"), jnp.bfloat16),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("factory", [gaussjax.gaussian, gaussjax.squashed_gaussian, gaussjax.multivariate_gaussian])
def test_policies_promote_no_dtype_implicitly(factory, name):
    network, dtype = NETWORKS[name]
    policy = factory(network, 3, BOX)
    carry = policy.initial_carry((5,))
    recurrent = {"carry": carry, "resets": jnp.zeros(5, bool)} if jax.tree.leaves(carry) else {}

    def everything(key):
        params, observations = as_type((policy.init(key), jnp.ones((5, 3))), dtype)
        acted = policy.act(params, key, observations, **recurrent)

        def loss(params):
            scores = policy.evaluate(params, observations, raw_actions=acted.outputs["raw_actions"], **recurrent)
            return jnp.sum(scores.log_prob) + jnp.sum(scores.entropy)

        return acted, jax.grad(loss)(params)

    with option("jax_numpy_dtype_promotion", "strict"):
        acted, _ = jax.eval_shape(everything, jax.random.key(0))
    assert acted.actions.dtype == acted.log_prob.dtype == jnp.float32

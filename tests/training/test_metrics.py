"""The metrics of every training step are a plain dict of scalars."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

from gaussjax import envs
from gaussjax.training import bc, ppo, sac

PENDULUM = envs.from_functional(PendulumFunctional(), max_steps=200)
PPO = ppo.Config(num_envs=2, num_steps=8, batch_size=8, num_epochs=1, hidden_sizes=(4,))
SAC = sac.Config(num_envs=2, num_steps=4, batch_size=4, learning_starts=4, buffer_size=16, hidden_sizes=(4,))
CLONING = bc.Config(batch_size=4)
DATA = bc.Dataset(np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32))
COMPILED = {
    "ppo": lambda: ppo.make(PENDULUM, PPO),
    "sac": lambda: sac.make(PENDULUM, SAC),
    "bc": lambda: bc.make(DATA, bc.make_policy(3, PENDULUM.action_space, CLONING), CLONING),
}


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_step_returns_scalars(name):
    loop = COMPILED[name]()
    _, metrics = loop.step(loop.init(jax.random.key(0)))
    assert type(metrics) is dict
    assert {leaf.shape for leaf in metrics.values()} == {()}
    assert metrics["step"].dtype == jnp.int32
    assert metrics["skipped"] == 0


@pytest.mark.parametrize(("algorithm", "config"), [(ppo, PPO), (sac, SAC)], ids=["ppo", "sac"])
def test_a_step_on_the_host_returns_numbers_of_python(algorithm, config):
    environments = envs.make_vector("Pendulum-v1", 2)
    loop = algorithm.make(environments, config)
    _, metrics = loop.step(loop.init(jax.random.key(0)))
    environments.close()
    assert {type(value) for value in metrics.values()} == {int, float}
    compiled = COMPILED[algorithm.__name__.rpartition(".")[2]]()
    told = jax.eval_shape(compiled.step, jax.eval_shape(compiled.init, jax.random.key(0)))[1]
    assert set(metrics) == {*told, "steps_per_second"}

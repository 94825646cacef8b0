"""MuJoCo Playground's own environments, in the environment of `make test-envs`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax import envs, rollout
from gaussjax.training import ppo
from tests.envs.values import PROBES, check_values

playground = pytest.importorskip("mujoco_playground")
mjx_env = pytest.importorskip("mujoco_playground._src.mjx_env")
wrapper = pytest.importorskip("mujoco_playground._src.wrapper")
pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG = ppo.Config(num_envs=4, num_steps=16, batch_size=32, num_epochs=2, hidden_sizes=(16,))


class Probe(mjx_env.MjxEnv):
    """The probe as an environment of Playground: the critic sees the time, and the actor sees ones."""

    action_size = property(lambda self: 1)
    xml_path = mj_model = mjx_model = property(lambda self: None)

    def __init__(self, probe):
        self.probe = probe

    def seen(self, time):
        return {"state": jnp.ones(1), "privileged_state": self.probe.observation(time)}

    def reset(self, rng):
        zero = jnp.zeros(())
        return mjx_env.State(None, self.seen(0), zero, zero, {}, {"rng": rng, "time": jnp.int32(0)})

    def step(self, state, action):
        before = state.info["time"]
        state.info["time"] = before + 1
        done = self.probe.terminated(before + 1).astype(jnp.float32)
        return state.replace(obs=self.seen(before + 1), reward=self.probe.reward(before), done=done)


def wrapped(values):
    return {"state": jnp.ones((len(values), 1)), "privileged_state": values}


@pytest.mark.parametrize("seeds", [None, 2])
@pytest.mark.parametrize("name", PROBES)
def test_the_values_of_a_probe_are_learnt_to_two_percent(name, seeds):
    environment = envs.from_brax(Probe(PROBES[name]), max_steps=PROBES[name].limit)
    check_values(environment, PROBES[name], seeds, wrapped)


def test_environments_wrapped_for_brax_are_refused():
    environment = wrapper.wrap_for_brax_training(Probe(PROBES["truncation"]), episode_length=5)
    with pytest.raises(ValueError, match=r"expected one that does not reset itself, got .*AutoResetWrapper"):
        jax.vmap(envs.from_brax(environment).reset)(jax.random.split(jax.random.key(0), (2, 2)))


def test_the_check_finds_the_one_fault_of_cartpole():
    """Its reset splits a key that it has split before."""
    found = envs.check(envs.make("playground:CartpoleBalance", max_steps=20), 25)
    assert [line.partition(",")[0] for line in found] == ["reset: expected each key to be used once"]


@pytest.mark.parametrize("impl", ["jax", "warp"])
def test_cartpole_is_trained_and_evaluated(impl):
    """States of Warp share leaves among all copies."""
    environment = envs.make("playground:CartpoleBalance", impl=impl, max_steps=7)
    loop = ppo.make(environment, CONFIG)
    state, step = loop.init(jax.random.key(0)), jax.jit(loop.step)
    for _ in range(3):
        state, metrics = step(state)
        assert all(np.isfinite(value) for value in metrics.values())
    assert (float(metrics["episodes"]), float(metrics["episode_length"])) == (8.0, 7.0)
    if impl == "jax":
        returns = rollout.compiled.evaluate(
            environment, loop.policy, state.params, jax.random.key(1), episodes=2, max_steps=9
        )
        assert returns.shape == (2,)
        # Balancing a pole that starts upright earns nearly 1 a step.
        assert 4.0 < float(returns.mean()) <= 7.0


def randomize(model, rng):
    """As Playground's own tasks do: the masses differ for each key."""
    mass = jax.vmap(lambda key: model.body_mass * jax.random.uniform(key, (), minval=0.5, maxval=2.0))(rng)
    axes = jax.tree.map(lambda _: None, model).tree_replace({"body_mass": 0})
    return model.tree_replace({"body_mass": mass}), axes


def test_each_episode_has_a_model_of_its_own():
    environment = envs.make("playground:CartpoleBalance", randomization_fn=randomize)
    states, observations = jax.jit(jax.vmap(environment.reset))(jax.random.split(jax.random.key(0), 3))
    assert observations.shape == (3, 5)
    (masses,) = states[2]
    assert len(set(np.asarray(masses[:, 1]))) == 3
    same = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 3), states[:2])
    moved = jax.jit(jax.vmap(environment.step))((*same, [masses]), jnp.ones((3, 1)))
    assert len(set(np.asarray(moved.observation[:, -1]))) == 3

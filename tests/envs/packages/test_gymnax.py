"""gymnax's own environments, in the environment of `make test-envs`."""

import jax
import jax.numpy as jnp
import pytest

from gaussjax import envs
from gaussjax.training import ppo
from tests.envs.values import PROBES, check_values

gymnax = pytest.importorskip("gymnax")
environment = pytest.importorskip("gymnax.environments.environment")
spaces = pytest.importorskip("gymnax.environments.spaces")
pytestmark = pytest.mark.filterwarnings("ignore")


class Probe(environment.Environment):
    """The probe as an environment of gymnax, whose own parameters have the time limit."""

    def __init__(self, probe):
        self.probe = probe

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=10**6 if self.probe.limit is None else self.probe.limit)

    def reset_env(self, key, params):
        return self.probe.observation(0), environment.EnvState(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        after = state.replace(time=state.time + 1)
        terminated = self.is_terminal(after, params)
        return self.probe.observation(after.time), after, self.probe.reward(state.time), terminated, {}

    def is_terminal(self, state, params):
        return self.probe.terminated(state.time)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (self.probe.size,))

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (1,))


@pytest.mark.parametrize("seeds", [None, 2])
@pytest.mark.parametrize("name", PROBES)
def test_the_values_of_a_probe_are_learnt_to_two_percent(name, seeds):
    check_values(envs.from_gymnax(Probe(PROBES[name])), PROBES[name], seeds)


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0", "Reacher-misc"])
def test_real_environments_are_clean(name):
    assert envs.check(envs.make(f"gymnax:{name}")) == []


def test_an_episode_of_a_real_environment_is_cut_off_at_its_limit():
    loop = ppo.make(
        envs.make("gymnax:Pendulum-v1"), ppo.Config(num_envs=4, num_steps=256, batch_size=256, hidden_sizes=(16,))
    )
    _, metrics = jax.jit(loop.step)(loop.init(jax.random.key(0)))
    assert (float(metrics["episodes"]), float(metrics["episode_length"])) == (4.0, 200.0)

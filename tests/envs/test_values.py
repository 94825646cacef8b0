"""PPO's critic learns the exact values of probes, by the protocol and by Gymnasium's functional interface."""

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces as gymnasium_spaces
from gymnasium.experimental.functional import FuncEnv

from gaussjax import envs
from gaussjax.spaces import Box
from tests.envs.values import PROBES, check_values


def protocol(probe):
    def step(state, action):
        time = state + 1
        flags = probe.terminated(time), probe.truncated(time)
        return envs.Step(time, probe.observation(time), probe.reward(state), *flags)

    spaces = Box(0.0, 1.0, (probe.size,)), Box(-1.0, 1.0, (1,))
    return envs.Environment(lambda key: (jnp.int32(0), probe.observation(0)), step, *spaces)


class Functional(FuncEnv):
    action_space = gymnasium_spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, probe):
        super().__init__()
        self.probe = probe
        self.observation_space = gymnasium_spaces.Box(0.0, 1.0, (probe.size,), np.float32)

    def initial(self, rng, params=None):
        return jnp.int32(0)

    def transition(self, state, action, rng, params=None):
        return state + 1

    def observation(self, state, rng, params=None):
        return self.probe.observation(state)

    def reward(self, state, action, next_state, rng, params=None):
        return self.probe.reward(state)

    def terminal(self, state, rng, params=None):
        return self.probe.terminated(state)


def functional(probe):
    return envs.from_functional(Functional(probe), max_steps=probe.limit)


# Without compilation it takes minutes.
@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("seeds", [None, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("kind", [protocol, pytest.param(functional, marks=pytest.mark.slow)])
def test_the_values_of_a_probe_are_learnt_to_two_percent(kind, name, seeds):
    check_values(kind(PROBES[name]), PROBES[name], seeds)

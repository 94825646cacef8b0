"""The state of host environments is saved and restored, or refused with the repair."""

import json

import gymnasium
import numpy as np
import pytest

from gaussjax.envs import snapshot
from tests.training import probes


class Opaque(probes.Swings, probes.Bandit):
    """Its state is not known to gaussjax."""


class Open(probes.Swings, probes.Bandit):
    """It says itself what its state is."""

    def get_state(self):
        return {"last": np.float32(0.1), "of": (1, [2.5, None])}

    def set_state(self, state):
        self.was = state


def test_environment_that_cannot_be_saved_is_named_with_the_repair():
    with pytest.raises(snapshot.UnsavableError, match=r"the state of .*:Opaque cannot be saved. Give"):
        snapshot.capture(probes.vector(Opaque, 2))


def test_environment_of_the_users_says_what_its_state_is():
    environments = probes.vector(Open, 2)
    environments.reset(seed=0)
    snapshot.restore(environments, snapshot.capture(environments))
    state = environments.envs[0].was
    assert state == {"last": np.float32(0.1), "of": (1, [2.5, None])}
    assert state["last"].dtype == np.float32


def test_wrapper_with_a_state_of_its_own_is_refused():
    environments = probes.vector(lambda: gymnasium.wrappers.NormalizeReward(gymnasium.make("Pendulum-v1")), 2)
    with pytest.raises(snapshot.UnsavableError, match=r"the wrapper .*NormalizeReward may hold a state"):
        snapshot.capture(environments)
    environments.close()


def test_a_state_with_names_that_are_no_text_comes_back_as_it_was():
    state = {0: 1.0, (1, 2): {"a": np.float32(0.5)}}
    written = json.loads(json.dumps(snapshot._write(state)))
    assert snapshot._read(written) == state

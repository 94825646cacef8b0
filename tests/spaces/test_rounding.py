"""A warning names observations of 64 bits whose changes float32 cannot hold."""

import warnings

import gymnasium
import jax
import numpy as np
import pytest

from gaussjax import rollout
from gaussjax.data import Episodes
from gaussjax.spaces.rounding import warn_of_lost_changes
from gaussjax.training import bc, ppo
from tests.training import probes

TEXT = r"observations.*: expected entries that float32 can resolve, got entry 1, with mean 1e\+08"


class Far(gymnasium.Env):
    """The second of three observations is far from zero, the third is a constant far from zero."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, offset=1e8, nested=False):
        self._offset = offset
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        if nested:
            self.observation_space = gymnasium.spaces.Dict({"far": self.observation_space})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 0.0, False, False, {}

    def _seen(self):
        seen = np.array([0.0, self._offset, 1e9 + 0.1])
        seen[:2] += self.np_random.normal(size=2)
        return {"far": seen} if isinstance(self.observation_space, gymnasium.spaces.Dict) else seen


@pytest.mark.parametrize("nested", [False, True])
def test_a_rollout_far_from_zero_warns_once(nested):
    environments = probes.vector_of([lambda: Far(nested=nested)] * 2)
    runner = rollout.Runner(environments)
    runner.reset(0)
    for _ in range(63):
        runner.step(np.zeros((2, 1)))
    with pytest.warns(UserWarning, match=(r"observations\['far'\]: " if nested else "") + TEXT[16 if nested else 0 :]):
        runner.step(np.zeros((2, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner.reset(1)
        for _ in range(100):
            runner.step(np.zeros((2, 1)))


def test_a_training_far_from_zero_warns_and_one_near_zero_does_not():
    config = ppo.Config(num_envs=2, num_steps=64, batch_size=64, num_epochs=1)
    loop = ppo.make(probes.vector_of([Far] * 2), config)
    state = loop.init(jax.random.key(0))
    with pytest.warns(UserWarning, match=TEXT):
        loop.step(state)
    near = ppo.make(probes.vector_of([lambda: Far(100.0)] * 2), config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near.step(near.init(jax.random.key(0)))


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_a_dataset_far_from_zero_warns(dtype):
    rows = np.random.default_rng(0).normal(size=(500, 2)) * 20.0 + [0.0, 2.0**40]
    policy = bc.make_policy(2, gymnasium.spaces.Box(-1.0, 1.0, (1,)), bc.Config())
    with pytest.warns(UserWarning, match="observations: expected entries that float32 can resolve, got entry 1"):
        bc.make(Episodes(rows.astype(dtype), np.zeros((500, 1), np.float32)), policy, bc.Config())


def test_constants_and_small_changes_lose_nothing():
    rows = np.random.default_rng(0).normal(size=(500, 1)) * [[1.0, 1e-8, 0.0]] + [[1e4, 0.7, 1e9 + 0.1]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_lost_changes(rows, "rows")
    with pytest.warns(UserWarning, match=r"got entry 0 and 1 more, with mean 1e\+07"):
        warn_of_lost_changes(np.random.default_rng(0).normal(size=(500, 2)) + 1e7, "rows")

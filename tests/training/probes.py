"""Small environments that isolate one mistake each."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import jax
import numpy as np


class Swings:
    """Spaces of the pendulum: a training on a probe with them has the compiled programs of one on the pendulum."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)


class Bandit(gymnasium.Env):
    """One step; the reward is highest, 0, at the action 0.5. Fails if the policy's gradient is wrong."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(self.observation_space.shape, np.float32), {}

    def step(self, action):
        return np.ones(self.observation_space.shape, np.float32), -float((action[0] - 0.5) ** 2), True, False, {}


class DelayedReward(gymnasium.Env):
    """Two steps; the second pays for the first action, best at -0.25. Fails if credit does not flow back."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._first = None
        return np.zeros(2, np.float32), {}

    def step(self, action):
        if self._first is None:
            self._first = float(action[0])
            return np.array([1.0, self._first], np.float32), 0.0, False, False, {}
        return np.zeros(2, np.float32), -4.0 * (self._first + 0.25) ** 2, True, False, {}


class Wages(gymnasium.Env):
    """One unit of reward a step for five steps; what differs is whether the end is real.

    The observation is constant, so an episode that is cut is worth as much at its end as at its start.
    """

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, truncates: bool):
        self._truncates = truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self._steps += 1
        ends = self._steps == 5
        return np.ones(1, np.float32), 1.0, ends and not self._truncates, ends and self._truncates, {}


class Counter(gymnasium.Env):
    """The observation counts the steps; the episode is cut after `length` of them."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length: int, breaks_at: int | None = None):
        self._length, self._breaks_at = length, breaks_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):
        self._steps += 1
        observation = np.full(self.observation_space.shape, self._steps, np.float32)
        if self._steps == self._breaks_at:
            observation[:] = np.nan
        return observation, float(self._steps), False, self._steps == self._length, {}


def vector(make: Callable[[], gymnasium.Env], num_envs: int) -> gymnasium.vector.VectorEnv:
    """Copies of a probe, with the reset rule that training needs."""
    return vector_of([make] * num_envs)


def vector_of(makes: list[Callable[[], gymnasium.Env]]) -> gymnasium.vector.VectorEnv:
    """Different probes side by side."""
    return gymnasium.vector.SyncVectorEnv(makes, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)


@contextlib.contextmanager
def registered(make: Callable[[], gymnasium.Env]) -> Iterator[str]:
    """Name by which Gymnasium makes a probe until the block ends."""
    name = "gaussjax-test/Probe-v0"
    gymnasium.register(name, make)
    try:
        yield name
    finally:
        del gymnasium.registry[name]


def trained(module: Any, environments: Any, config: Any, **options: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Policy, last state and last metrics of a whole training by `ppo` or `sac`."""
    config = dataclasses.replace(config, **options)
    algorithm = module.make(environments, config)
    state = algorithm.init(jax.random.key(0))
    while state.steps < config.total_steps:
        state, metrics = algorithm.step(state)
    if algorithm.runner is not None:
        environments.close()
    return algorithm.policy, state, metrics

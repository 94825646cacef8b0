"""Probes whose value function is known exactly, for the adapter of each kind of environment.

The observation is one-hot and counts the steps up to `size - 1`. A step before number `delay` has the reward 0, and
each other step has 1. The episode terminates after `ends` steps and is cut off after `limit` steps, if given.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax import normalize
from gaussjax.training import ppo

GAMMA = 0.9


class Probe(NamedTuple):
    size: int
    ends: int | None = None
    limit: int | None = None
    delay: int = 0
    values: tuple[float, ...] = ()

    def observation(self, time):
        return jnp.where(jnp.arange(self.size) == jnp.minimum(time, self.size - 1), 1.0, 0.0)

    def reward(self, time):
        return jnp.where(time >= self.delay, 1.0, 0.0)

    def terminated(self, time):
        return jnp.asarray(False) if self.ends is None else time >= self.ends

    def truncated(self, time):
        return jnp.asarray(False) if self.limit is None else time >= self.limit


# Three rewards of 1 remain, then two, then one.
_THREE = (1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0)
PROBES = {
    "termination": Probe(3, ends=3, values=_THREE),
    # The reward goes on for ever; the first observation of the next episode is worth less than the last one.
    "truncation": Probe(2, limit=5, delay=1, values=(GAMMA / (1 - GAMMA), 1 / (1 - GAMMA))),
    "both": Probe(3, ends=3, limit=3, values=_THREE),
    "one step": Probe(1, ends=1, values=(1.0,)),
}
CONFIG = ppo.Config(
    num_envs=8,
    num_steps=16,
    batch_size=128,
    num_epochs=8,
    hidden_sizes=(16,),
    learning_rate=0.03,
    gamma=GAMMA,
    total_steps=8 * 16 * 150,
    normalize_observations=False,
    normalize_rewards=False,
    max_grad_norm=100.0,
)


def learned_values(environment: Any, observations: Any, seeds: int | None, config: ppo.Config = CONFIG) -> np.ndarray:
    """The values of the observations after a training, or after one for each of several seeds under `vmap`."""
    loop = ppo.make(environment, config)
    updates = config.total_steps // (config.num_envs * config.num_steps)

    def train(key):
        state = jax.lax.scan(lambda state, _: (loop.step(state)[0], None), loop.init(key), length=updates)[0]
        seen = normalize.apply(state.observation_statistics, observations)
        return loop.policy.apply(state.params, seen)[1]["value"]

    keys = jax.random.key(0) if seeds is None else jax.random.split(jax.random.key(0), seeds)
    return np.asarray(jax.jit(train if seeds is None else jax.vmap(train))(keys))


def check_values(
    environment: Any, probe: Probe, seeds: int | None, wrap: Any = lambda observations: observations
) -> None:
    """Asserts that the critic learns each value to 2%."""
    found = learned_values(environment, wrap(jnp.eye(probe.size)), seeds)
    print(f"largest error {np.max(np.abs(found / np.array(probe.values) - 1)):.2%}")
    np.testing.assert_allclose(found, np.broadcast_to(probe.values, found.shape), rtol=0.02)

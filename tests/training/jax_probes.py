"""Probes as pure JAX functions."""

import jax
import jax.numpy as jnp

from gaussjax import envs
from gaussjax.spaces import Box, Dict

UNIT = Box(-1.0, 1.0, (1,))


def bandit(half: float, shape: tuple[int, ...] = (1,)) -> envs.Environment:
    """One step; the reward is highest, 0, where every entry of the action is a quarter of the Box above its middle."""

    def step(state, action):
        reward = -jnp.mean(jnp.square((action - jnp.full(shape, 0.5 * half)) / half))
        return envs.Step(state, jnp.ones(1), reward, jnp.asarray(True), jnp.asarray(False))

    return envs.Environment(lambda key: (jnp.zeros(()), jnp.ones(1)), step, Box(shape=(1,)), Box(-half, half, shape))


def recall(length: int) -> envs.Environment:
    """A cue of ±0.5 is shown once; after `length` blank steps the action has to repeat it.

    Without a memory nothing is better than 0, which costs 0.25.
    """

    def reset(key):
        cue = jnp.where(jax.random.bernoulli(key), 0.5, -0.5)
        return (cue, jnp.zeros((), jnp.int32)), jnp.stack([cue, jnp.zeros(())])

    def step(state, action):
        cue, steps = state
        last = steps == length
        reward = jnp.where(last, -jnp.square(action[0] - cue), 0.0)
        asked = jnp.where(steps + 1 == length, 1.0, 0.0)
        return envs.Step((cue, steps + 1), jnp.stack([jnp.zeros(()), asked]), reward, last, jnp.asarray(False))

    return envs.Environment(reset, step, Box(shape=(2,)), UNIT)


def hidden_velocity(length: int = 30) -> envs.Environment:
    """A mass starts somewhere at some speed and has to be at rest at 0; only its position is seen.

    A push back to 0 alone never slows the mass down, so that a policy needs the velocity, from earlier positions.
    """

    def reset(key):
        position, velocity = jax.random.uniform(key, (2,), minval=-1.0)
        return (position, velocity, jnp.zeros((), jnp.int32)), position.reshape(1)

    def step(state, action):
        position, velocity, steps = state
        velocity = velocity + 0.5 * action[0]
        position = position + 0.5 * velocity
        ends = steps + 1 == length
        return envs.Step(
            (position, velocity, steps + 1), position.reshape(1), -jnp.square(position), jnp.asarray(False), ends
        )

    return envs.Environment(reset, step, Box(shape=(1,)), UNIT)


def asymmetric(size: float) -> envs.Environment:
    """One step; the best action is 0.5. A number of ±`size` is added to the reward, and only the critic sees it."""

    def reset(key):
        luck = jnp.where(jax.random.bernoulli(key), size, -size)
        return luck, {"state": jnp.ones(1), "privileged_state": jnp.stack([luck, 1.0])}

    def step(state, action):
        seen = {"state": jnp.ones(1), "privileged_state": jnp.stack([state, 1.0])}
        return envs.Step(state, seen, state - jnp.square(action[0] - 0.5), jnp.asarray(True), jnp.asarray(False))

    space = Dict((("privileged_state", Box(shape=(2,))), ("state", Box(shape=(1,)))))
    return envs.Environment(reset, step, space, UNIT)


def counter(length: int, terminates: bool = False) -> envs.Environment:
    """The observation counts the steps, the reward is the action plus the count, the episode ends after `length`."""

    def reset(key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(state, action):
        count = state + 1.0
        ends = count == length
        no = jnp.asarray(False)
        reward = count + 0.0 * action[0]
        return envs.Step(count, count.reshape(1), reward, ends if terminates else no, no if terminates else ends)

    return envs.Environment(reset, step, Box(shape=(1,)), UNIT)

"""A pendulum in JAX whose velocity is hidden, in the shape of MuJoCo Playground's environments."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

MAX_STEPS = 200
_GRAVITY, _STEP, _MOST_TORQUE, _MOST_SPEED = 10.0, 0.05, 2.0, 8.0


@struct.dataclass
class State:
    """State of one pendulum; the policy sees `obs` only."""

    angle: jax.Array
    speed: jax.Array
    obs: Any
    reward: jax.Array
    done: jax.Array
    info: dict[str, Any]
    metrics: dict[str, Any]


class HiddenPendulum:
    """The equations of Gymnasium's Pendulum-v1, for actions in [-1, 1]."""

    observation_size, action_size = 2, 1

    def reset(self, rng: jax.Array) -> State:
        angle, speed = jax.random.uniform(rng, (2,), minval=-1.0, maxval=1.0) * jnp.array([jnp.pi, 1.0])
        return State(angle, speed, _seen(angle), jnp.zeros(()), jnp.zeros(()), {}, {})

    def step(self, state: State, action: jax.Array) -> State:
        torque = _MOST_TORQUE * jnp.clip(action[0], -1.0, 1.0)
        angle = (state.angle + jnp.pi) % (2.0 * jnp.pi) - jnp.pi
        reward = -(angle**2 + 0.1 * state.speed**2 + 0.001 * torque**2)
        speed = state.speed + (1.5 * _GRAVITY * jnp.sin(state.angle) + 3.0 * torque) * _STEP
        speed = jnp.clip(speed, -_MOST_SPEED, _MOST_SPEED)
        angle = state.angle + speed * _STEP
        return dataclasses.replace(state, angle=angle, speed=speed, obs=_seen(angle), reward=reward)


def _seen(angle: jax.Array) -> jax.Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


class PrivilegedPendulum(HiddenPendulum):
    """The actor sees the directions of this step and of the one before; the critic sees the velocity."""

    observation_size = {"state": (4,), "privileged_state": (3,)}  # noqa: RUF012 (the attribute of the protocol)

    def reset(self, rng: jax.Array) -> State:
        state = super().reset(rng)
        return dataclasses.replace(state, obs=_both(state.obs, state))

    def step(self, state: State, action: jax.Array) -> State:
        after = super().step(state, action)
        return dataclasses.replace(after, obs=_both(state.obs["state"][:2], after))


def _both(before: jax.Array, state: State) -> dict[str, jax.Array]:
    seen = _seen(state.angle)
    return {
        "state": jnp.concatenate([seen, before]),
        "privileged_state": jnp.concatenate([seen, state.speed[None]]),
    }


def make() -> Any:
    """The pendulum with a hidden velocity for gaussjax."""
    return _adapted(HiddenPendulum())


def make_privileged() -> Any:
    """The pendulum with a privileged critic for gaussjax."""
    return _adapted(PrivilegedPendulum())


def _adapted(pendulum: HiddenPendulum) -> Any:
    from gaussjax import envs

    return envs.from_brax(pendulum, max_steps=MAX_STEPS)

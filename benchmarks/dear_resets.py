"""An environment whose reset takes as long as hundreds of steps, and whose episodes end at different steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from gaussjax import envs
from gaussjax.spaces import Box

_LENGTH, _SIZE, _PRODUCTS = 200, 32, 200


def make() -> envs.Environment:
    """An environment for `envs.make`; an episode begins at a random one of its steps."""

    def reset(key: Key[Array, ""]) -> tuple[Any, Array]:
        place_key, time_key = jax.random.split(key)
        drawn = jax.random.normal(place_key, (_SIZE,))
        place = jax.lax.fori_loop(0, _PRODUCTS, lambda _, place: _moved(place, 0.0), drawn)
        return (place, jax.random.randint(time_key, (), 0, _LENGTH)), place

    def step(state: Any, action: Array) -> envs.Step:
        place, time = _moved(state[0], action), state[1] + 1
        return envs.Step((place, time), place, -jnp.mean(jnp.abs(place)), jnp.asarray(False), time >= _LENGTH)

    return envs.Environment(reset, step, Box(shape=(_SIZE,)), Box(-1.0, 1.0, (1,)))


def _moved(place: Array, push: Any) -> Array:
    return jnp.tanh(place @ (0.9 * jnp.eye(_SIZE)) + push)

"""Deterministic actions on gymnax's Pendulum; rejax and purejaxrl have no evaluation with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnax
import jax


@partial(jax.jit, static_argnums=(0, 2))
def returns_of(act: Callable[[Any, jax.Array], jax.Array], params: Any, episodes: int, seed: int) -> jax.Array:
    """Sum of the rewards of each episode, which lasts 200 steps.

    Args:
        act: Function from parameters and one observation to an action. Each new function is compiled.
        params: Parameters of the policy.
        episodes: Number of episodes.
        seed: Random seed of the first states.
    """
    environment, settings = gymnax.make("Pendulum-v1")

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        observation, inner = state
        action = act(params, observation)
        observation, inner, reward, _, _ = environment.step_env(jax.random.key(0), inner, action, settings)
        return (observation, inner), reward

    def episode(key: jax.Array) -> jax.Array:
        first = environment.reset_env(key, settings)
        return jax.lax.scan(step, first, None, length=settings.max_steps_in_episode)[1].sum()

    return jax.vmap(episode)(jax.random.split(jax.random.key(seed), episodes))

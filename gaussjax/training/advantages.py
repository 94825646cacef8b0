"""Generalised advantage estimation with terminations and truncations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def generalized_advantages(
    rewards: Float[Array, " time *envs"],
    values: Float[Array, " time *envs"],
    next_values: Float[Array, " time *envs"],
    terminated: Bool[Array, " time *envs"],
    truncated: Bool[Array, " time *envs"],
    *,
    gamma: float | Array,
    gae_lambda: float | Array,
) -> Float[Array, " time *envs"]:
    """Advantage of each action over the value function.

    A terminated step has no future; a truncated step has the value of its last observation.
    Later errors count up to the first of either.

    Args:
        rewards: Reward of each step.
        values: Value of the observation that was acted on.
        next_values: Value of the next observation; at the end of an episode, of its true last observation.
        terminated: The episode ended at this step.
        truncated: The episode was cut at this step.
        gamma: Discount factor, in [0, 1].
        gae_lambda: Lambda, in [0, 1]: 0 gives one-step errors, 1 the whole return.

    Returns:
        Advantages, in units of reward. Add `values` for the targets of the value function.

    Example:
        >>> steps = jnp.array([1.0, 1.0]), jnp.zeros(2), jnp.zeros(2)
        >>> ends = jnp.array([False, True]), jnp.array([False, False])
        >>> generalized_advantages(*steps, *ends, gamma=0.5, gae_lambda=1.0)
        Array([1.5, 1. ], dtype=float32)

    Source:
        Schulman et al. 2016, high-dimensional continuous control using generalized advantage
        estimation (arXiv:1506.02438).
    """
    errors = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    decay = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = now[0] + now[1] * later
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(errors[0]), (errors, decay), reverse=True)[1]

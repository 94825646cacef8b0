"""Generalised advantage estimation with terminations and truncations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gaussjax.core.compiled import varying


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

    The return after a terminated step is zero. The return after a truncated step is the value of the episode's last
    observation. The sum of discounted errors ends at both kinds of steps.

    Args:
        rewards: Reward of each step.
        values: Value of the observation before each step.
        next_values: Value of the observation after each step and before any reset.
        terminated: Flags of steps after which the episode ended by itself.
        truncated: Flags of steps after which the episode was cut.
        gamma: Discount factor, in [0, 1].
        gae_lambda: Lambda, in [0, 1]: 0 uses one-step errors, and 1 uses the whole return.

    Returns:
        Advantages, in units of reward. Add `values` for the targets of the value function.

    Example:
        >>> steps = jnp.array([1.0, 1.0]), jnp.zeros(2), jnp.zeros(2)
        >>> ends = jnp.array([False, True]), jnp.array([False, False])
        >>> generalized_advantages(*steps, *ends, gamma=0.5, gae_lambda=1.0)
        Array([1.5, 1. ], dtype=float32)

    Source:
        Schulman et al. 2016, continuous control using generalized advantage estimation (arXiv:1506.02438).
    """
    errors = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    decay = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        advantage = now[0] + now[1] * later
        return advantage, advantage

    if not len(errors):
        return errors
    last = varying(jnp.zeros_like(errors[0]), like=(errors, decay))
    return jax.lax.scan(step, last, (errors, decay), reverse=True)[1]

"""Generalised advantage estimation, right at terminations and at truncations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
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
    """How much better each action did than the value function foresaw.

    A terminated step has no future; a truncated one has the value of its last observation.
    The trace of later errors stops at both.

    Args:
        rewards: Of each step.
        values: Of the observation acted on.
        next_values: Of the observation that followed, at the end of an episode its true last one.
        terminated: The episode ended at this step.
        truncated: The episode was cut at this step.
        gamma: Gamma, in [0, 1].
        gae_lambda: Lambda, in [0, 1]: 0 is one step, 1 the whole return.

    Returns:
        Advantages, in units of reward. Add `values` for the targets of the value function.

    Example:
        >>> import jax.numpy as jnp
        >>> steps = jnp.array([1.0, 1.0]), jnp.zeros(2), jnp.zeros(2)
        >>> ends = jnp.array([False, True]), jnp.array([False, False])
        >>> generalized_advantages(*steps, *ends, gamma=0.5, gae_lambda=1.0)
        Array([1.5, 1. ], dtype=float32)

    Source:
        Schulman et al. 2016, high-dimensional continuous control using generalized advantage
        estimation (arXiv:1506.02438).
    """
    errors = rewards + gamma * jnp.where(terminated, 0.0, next_values) - values
    keep = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        error, kept = now
        advantage = error + kept * later
        return advantage, advantage

    _, advantages = jax.lax.scan(step, jnp.zeros_like(errors[0]), (errors, keep), reverse=True)
    return advantages

"""The losses of PPO, apart from its loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from gaussjax.distributions.special import expm1_minus_x

if TYPE_CHECKING:
    from jaxtyping import Array, Float

# exp of more than this says nothing a clipped ratio could use, and overflows soon after.
_LOG_RATIO_LIMIT = 20.0


def log_ratio(log_prob: Float[Array, "*batch"], old_log_prob: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Logarithm of the probability ratio, held to ±20 so that its exponential stays finite.

    Args:
        log_prob: Of the actions taken under the policy as it is, in nats.
        old_log_prob: Under the policy that took them.

    Returns:
        Their difference, in nats.

    Example:
        >>> float(log_ratio(jnp.array(-1.0), jnp.array(-1.5)))
        0.5
    """
    return jnp.clip(log_prob - old_log_prob, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def clipped_surrogate(
    log_ratios: Float[Array, "*batch"], advantages: Float[Array, "*batch"], clip_range: float | Array
) -> Float[Array, ""]:
    """PPO's policy loss: the pessimistic of the plain and the clipped objective, negated.

    Args:
        log_ratios: From `log_ratio`.
        advantages: Of the actions taken.
        clip_range: How far the ratio may leave 1 before its gradient stops.

    Returns:
        The mean over the batch, to be made small.

    Example:
        >>> import jax.numpy as jnp
        >>> float(clipped_surrogate(jnp.log(jnp.array([2.0])), jnp.array([1.0]), 0.25))
        -1.25

    Source:
        Schulman et al. 2017, equation 7 (arXiv:1707.06347).
    """
    ratios = jnp.exp(log_ratios)
    clipped = jnp.clip(ratios, 1.0 - clip_range, 1.0 + clip_range)
    return -jnp.mean(jnp.minimum(ratios * advantages, clipped * advantages))


def value_loss(
    values: Float[Array, "*batch"],
    targets: Float[Array, "*batch"],
    old_values: Float[Array, "*batch"],
    value_clip_range: float | None,
) -> Float[Array, ""]:
    """Half the mean squared error of the value function.

    Args:
        values: Predicted now.
        targets: To be predicted.
        old_values: Predicted when the experience was collected.
        value_clip_range: None, or how far a prediction may move from the old one before its gradient stops.

    Returns:
        The mean over the batch, in squared units of the value.

    Example:
        >>> float(value_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0]), None))
        2.0
    """
    errors = jnp.square(values - targets)
    if value_clip_range is not None:
        held = old_values + jnp.clip(values - old_values, -value_clip_range, value_clip_range)
        errors = jnp.maximum(errors, jnp.square(held - targets))
    return 0.5 * jnp.mean(errors)


def approximate_kl(log_ratios: Float[Array, "*batch"]) -> Float[Array, ""]:
    """Unbiased estimate of KL(old || new) in nats from samples of the old policy; never negative.

    Args:
        log_ratios: From `log_ratio`.

    Returns:
        The mean over the batch.

    Example:
        >>> float(approximate_kl(jnp.zeros(3)))
        0.0

    Source:
        Schulman 2020, approximating KL divergence, the third estimator.
    """
    return jnp.mean(expm1_minus_x(log_ratios))

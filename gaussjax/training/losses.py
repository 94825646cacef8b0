"""Losses of PPO, and the entropy that PPO and SAC reward."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

# In float32 the exponential overflows above 88, and one infinite ratio spoils the loss of a minibatch.
_LOG_RATIO_LIMIT = 20.0


def log_ratio(log_prob: Float[Array, "*batch"], old_log_prob: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Logarithm of the probability ratio, clipped to ±20 so that the ratio remains finite.

    Args:
        log_prob: Log-densities of the actions under the current policy, in nats.
        old_log_prob: Log-densities of the actions under the policy of the rollout.

    Returns:
        The clipped difference of the log-densities, in nats.

    Example:
        >>> float(log_ratio(jnp.array(-1.0), jnp.array(-1.5)))
        0.5
    """
    return jnp.clip(log_prob - old_log_prob, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def sampled_entropy(distribution: Any, log_prob: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Estimate of the entropy from one sample, or the exact entropy of a distribution with atoms.

    The log-density of a sample jumps where the sample meets an atom, so its derivative would be a biased estimate.

    Args:
        distribution: Distribution of the sample.
        log_prob: Log-density of the sample in nats, as a function of the parameters and of the noise.

    Returns:
        The entropy in nats, with the shape of `log_prob`.

    Example:
        >>> from gaussjax.distributions import CensoredGaussian, DiagGaussian
        >>> fields = jnp.zeros(1), jnp.zeros(1)
        >>> float(sampled_entropy(DiagGaussian(*fields), jnp.array(-2.0)))
        2.0
        >>> float(sampled_entropy(CensoredGaussian(*fields, -1.0, 1.0), jnp.array(-2.0)))
        1.3108991384506226

    Source:
        Schulman et al. 2015, gradient estimation using stochastic computation graphs (arXiv:1506.05254).
    """
    # A distribution of a caller need not be a subclass of ours.
    return distribution.entropy() if getattr(distribution, "has_atoms", False) else -log_prob


def clipped_surrogate(
    log_ratios: Float[Array, "*batch"], advantages: Float[Array, "*batch"], clip_range: float | Array
) -> Float[Array, ""]:
    """Policy loss of PPO: minus the smaller of the plain and the clipped objective.

    Args:
        log_ratios: Logarithms of the probability ratios, from `log_ratio`.
        advantages: Advantages of the actions.
        clip_range: Deviation of the ratio from 1 at which the objective is clipped.

    Returns:
        The mean over the batch, to be minimised.

    Example:
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
        values: Current predictions.
        targets: Values to predict.
        old_values: Predictions at the time of the rollout.
        value_clip_range: Deviation from the old prediction at which the prediction is clipped, or None.

    Returns:
        The mean over the batch, in squared units of the value.

    Example:
        >>> float(value_loss(jnp.array([1.0]), jnp.array([3.0]), jnp.array([1.0]), None))
        2.0
    """
    errors = jnp.square(values - targets)
    if value_clip_range is not None:
        clipped = old_values + jnp.clip(values - old_values, -value_clip_range, value_clip_range)
        errors = jnp.maximum(errors, jnp.square(clipped - targets))
    return 0.5 * jnp.mean(errors)

"""The diagonal Gaussian policy."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.distributions import DiagGaussian
from gaussjax.distributions.special import reduce
from gaussjax.policy import checks
from gaussjax.policy.build import build
from gaussjax.policy.options import (
    LOG_STD_BOUNDS,
    clip_to,
    clipping_options,
    sides,
)
from gaussjax.policy.policy import Kind, Policy


def gaussian(
    network: Any,
    observation_space: Any,
    action_space: Any,
    *,
    clip_actions: bool = False,
    clip_mean_actions: bool = False,
    clip_log_std: bool = True,
    min_log_std: float = LOG_STD_BOUNDS[0],
    max_log_std: float = LOG_STD_BOUNDS[1],
    reduction: str = "sum",
    clipped_log_prob: str = "density",
    keepdims: bool = True,
) -> Policy:
    """A policy with a diagonal Gaussian distribution of the actions.

    Args:
        network: One of `gaussjax.networks`, or any object with `init(key, observations)` and
            `apply(params, observations)` that returns `(mean, log_std, dict)`, such as a
            `flax.linen` module of yours. A module's field `num_actions`, where None, is filled in.
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box. Actions are flat vectors whatever its shape.
        clip_actions: Clip the actions to the Box, each dimension on its own; an infinite bound
            leaves that side open.
        clip_mean_actions: Clip the mean to the Box before sampling.
        clip_log_std: Clip log_std to [min_log_std, max_log_std].
        min_log_std: Lower bound, natural logarithm.
        max_log_std: Upper bound.
        reduction: How the log-densities of the dimensions become one: "sum" (joint density),
            "mean", "prod" (of log-densities; for compatibility), or "none".
        clipped_log_prob: Log-density of a clipped action: "density" (of the clipped value under the
            unclipped normal), "unclipped" (of the sample before the clip; such a policy scores raw
            actions only) or "censored" (the probability of everything beyond the bound).
        keepdims: Whether the reduced axis stays with size 1, `(…, 1)`.

    Returns:
        The policy's pure functions.

    Raises:
        ValueError: An option has no such choice, does not apply or contradicts another.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32))
        >>> policy = gaussian(network, 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)), clip_actions=True)
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> actions.shape, log_prob.shape
        ((5, 2), (5, 1))

    Source:
        Williams 1992, simple statistical gradient-following algorithms, section 6.
    """
    options = clipping_options(
        ("density", "unclipped", "censored"),
        clip_actions=clip_actions,
        clip_mean_actions=clip_mean_actions,
        clip_log_std=clip_log_std,
        min_log_std=min_log_std,
        max_log_std=max_log_std,
        clipped_log_prob=clipped_log_prob,
    )
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)
    clip_to_box = clip_to(low, high)
    scores_clipped = clip_actions and clipped_log_prob != "unclipped"
    # An action clipped in float32 is on the bound in float64 too.
    with np.errstate(over="ignore"):
        nearest = np.maximum(low, low.astype(np.float32)), np.minimum(high, high.astype(np.float32))

    def sample(distribution: DiagGaussian, noise: Array | None, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.mean() if noise is None else distribution.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        actions = clip_to_box(raw_actions) if clip_actions else raw_actions
        if not scores_clipped:
            return raw_actions, actions, distribution.noise_log_prob(noise, reduction)
        inside = actions == raw_actions
        if clipped_log_prob == "censored":
            # A sample exactly on a bound is scored with the tail mass, like a clipped one.
            lowest, highest = sides(low, high, raw_actions)
            inside = (lowest < raw_actions) & (raw_actions < highest)
        exact = distribution.noise_log_prob(noise, "none")
        terms = xp.where(inside, exact, log_prob(distribution, actions, "none"))
        return raw_actions, actions, reduce(terms, reduction)

    def log_prob(distribution: DiagGaussian, actions: Array, reduction: str) -> Array:
        density = distribution.log_prob(actions, "none" if clipped_log_prob == "censored" else reduction)
        if clipped_log_prob != "censored":
            return density
        lowest, highest = sides(*nearest, actions)
        # An action on a bound or beyond it has the mass of that tail. Elsewhere the mean replaces the bound,
        # since an infinite bound has no gradient.
        at_low, at_high, mean = actions <= lowest, actions >= highest, distribution.mean()
        above = distribution.log_survival(xp.where(at_high, highest, mean))
        below = distribution.log_cdf(xp.where(at_low, lowest, mean))
        terms = xp.where(at_low, below, xp.where(at_high, above, density))
        return reduce(xp.where(lowest == highest, 0.0, terms), reduction)

    def raw_log_prob(distribution: DiagGaussian, raw_actions: Array, reduction: str) -> Array:
        return log_prob(distribution, clip_to_box(raw_actions) if scores_clipped else raw_actions, reduction)

    kind = Kind(
        name="gaussian",
        distribution=lambda mean, log_std, _: DiagGaussian(mean, log_std),
        sample=sample,
        raw_log_prob=raw_log_prob,
        log_prob=checks.taken_actions_of_unclipped if clipped_log_prob == "unclipped" else log_prob,
        clip_mean=clip_to_box if clip_mean_actions else None,
        support=box if scores_clipped else None,
        factory=gaussian,
    )
    return build(kind, network, observation_space, box, reduction=reduction, keepdims=keepdims, **options)

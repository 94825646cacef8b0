"""The Gaussian policy squashed by tanh into the bounds of the action space."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import inwards, xp
from gaussjax.core.text import quoted
from gaussjax.distributions import TanhGaussian
from gaussjax.distributions.squashed import usable
from gaussjax.policy.build import build
from gaussjax.policy.checks import LOG_STD_BOUNDS, log_std_options
from gaussjax.policy.policy import Kind, Policy


def squashed_gaussian(
    network: Any,
    observation_space: Any,
    action_space: Any,
    *,
    clip_log_std: bool = True,
    min_log_std: float = LOG_STD_BOUNDS[0],
    max_log_std: float = LOG_STD_BOUNDS[1],
    reduction: str = "sum",
    keepdims: bool = True,
) -> Policy:
    """A Gaussian policy squashed into the Box by tanh.

    `mean_actions`, `log_std` and `raw_actions` in the outputs are the values before tanh. gaussjax's networks
    return an unbounded mean for this policy. Log-densities are in nats per unit of the Box. The deterministic
    action is the squashed mean, which is the median of each dimension; `distribution.mean()` is the mean.

    Pass `raw_actions=outputs["raw_actions"]` to `evaluate` if you have them: near a bound, an action determines
    its raw action only roughly. An action on a bound is scored as if it were 2⁻²⁴ of half the width inside, so
    every score is finite.

    Args:
        network: As for `gaussian`.
        observation_space: As for `gaussian`.
        action_space: A Gymnasium Box that is bounded in every dimension.
        clip_log_std: As for `gaussian`.
        min_log_std: As for `gaussian`.
        max_log_std: As for `gaussian`.
        reduction: As for `gaussian`.
        keepdims: As for `gaussian`.

    Returns:
        The policy.

    Raises:
        ValueError: A dimension of the Box is unbounded, or its half-width is below 2⁻¹²⁶ or above 8.5e37; or an option
            has an unknown value.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32))
        >>> policy = squashed_gaussian(network, 3, gaussjax.spaces.Box(-2.0, 2.0, (2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> actions.shape, log_prob.shape
        ((5, 2), (5, 1))

    Source:
        Haarnoja et al. 2018, soft actor-critic (arXiv:1801.01290), appendix C.
    """
    options = log_std_options(clip_log_std, min_log_std, max_log_std)
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)
    # Actions are float32: two close bounds may round to the same number, and the width may overflow or underflow.
    sides = (side.tolist() for side in inwards(low, high, np.dtype("float32")))
    unusable = [i for i, bounds in enumerate(zip(*sides, strict=True)) if not usable(*bounds)]
    if unusable:
        raise ValueError(
            f"action_space: expected a Box with two finite bounds, low < high in float32 and half a width from 2**-126 "
            f"to 8.5e37, in every dimension, got low {quoted(low[unusable].tolist())} and high "
            f"{quoted(high[unusable].tolist())} in the dimensions {quoted(unusable)}. Rescale the actions in "
            f"the environment (gymnasium.wrappers.RescaleAction), or use gaussjax.gaussian."
        )
    bounds = tuple(low.tolist()), tuple(high.tolist())

    def sample(distribution: TanhGaussian, noise: Any, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.base.mean() if noise is None else distribution.base.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        return raw_actions, distribution.squash(raw_actions), distribution.noise_log_prob(noise, reduction)

    kind = Kind(
        name="squashed_gaussian",
        distribution=lambda mean, log_std, _: TanhGaussian(mean, log_std, *bounds),
        sample=sample,
        raw_log_prob=lambda distribution, raw, reduction: distribution.log_prob(raw, reduction, raw_actions=raw),
        # The squash applies tanh. A second tanh, on the mean, would limit deterministic actions to 76% of the Box.
        network_fields=(("output_activation", None),),
        support=box,
        # tanh never reaches a bound, so actions with |tanh(u)| >= 0.99, where |u| >= 2.65, count as saturated.
        saturation_margin=0.01,
        factory=squashed_gaussian,
    )
    return build(kind, network, observation_space, box, reduction=reduction, keepdims=keepdims, **options)

"""The Gaussian policy truncated to the action space."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import inwards
from gaussjax.core.text import quoted
from gaussjax.distributions import TruncatedGaussian
from gaussjax.distributions.truncated import has_width
from gaussjax.policy.build import build
from gaussjax.policy.checks import LOG_STD_BOUNDS, log_std_options
from gaussjax.policy.policy import Kind, Policy


def truncated_gaussian(
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
    """A Gaussian policy truncated to the Box: each dimension is conditioned on its interval.

    The support is exactly the Box, and `raw_actions` equals `actions`. A side without a bound stays open; a dimension
    without bounds is Gaussian. The deterministic action is the mode: the mean, clipped to the Box. `mean_actions` and
    `log_std` in the outputs are the values before the truncation. gaussjax's networks return an unbounded mean for
    this policy. Noise is mapped to the action with the same cumulative probability, and actions have derivatives with
    respect to mean and log_std. An action outside of the Box has the log-density -inf.

    Args:
        network: As for `gaussian`.
        observation_space: As for `gaussian`.
        action_space: A Gymnasium Box.
        clip_log_std: As for `gaussian`.
        min_log_std: As for `gaussian`.
        max_log_std: As for `gaussian`.
        reduction: As for `gaussian`.
        keepdims: As for `gaussian`.

    Returns:
        The policy.

    Raises:
        ValueError: A dimension of the Box has no width in float32, or an option has an unknown value.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32))
        >>> policy = truncated_gaussian(network, 3, gaussjax.spaces.Box(-2.0, 2.0, (2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> bool((abs(actions) <= 2.0).all()), bool((outputs["raw_actions"] == actions).all())
        (True, True)

    Source:
        Figurnov et al. 2018, implicit reparameterization gradients (arXiv:1805.08498).
    """
    options = log_std_options(clip_log_std, min_log_std, max_log_std)
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)
    # Actions are float32: two close bounds may round to the same number.
    sides = (side.tolist() for side in inwards(low, high, np.dtype("float32")))
    empty = [i for i, ends in enumerate(zip(*sides, strict=True)) if not has_width(*ends)]
    if empty:
        raise ValueError(
            f"action_space: expected a Box with low < high in float32 in every dimension, got low "
            f"{quoted(low[empty].tolist())} and high {quoted(high[empty].tolist())} in the dimensions {quoted(empty)}. "
            f"Leave constant actions out, or use gaussjax.gaussian with clip_actions=True."
        )
    bounds = tuple(low.tolist()), tuple(high.tolist())

    def sample(distribution: TruncatedGaussian, noise: Any, reduction: str) -> tuple[Array, Array, Array]:
        if noise is None:
            actions = distribution.mode()
            return actions, actions, distribution.log_prob(actions, reduction)
        actions = distribution.from_noise(noise)
        return actions, actions, distribution.noise_log_prob(noise, reduction)

    kind = Kind(
        name="truncated_gaussian",
        distribution=lambda mean, log_std, _: TruncatedGaussian(mean, log_std, *bounds),
        sample=sample,
        # A tanh on the mean would keep the mode away from the bounds.
        network_fields=(("output_activation", None),),
        support=box,
        # Samples are rarely on a bound itself.
        saturation_margin=0.01,
        factory=truncated_gaussian,
    )
    return build(kind, network, observation_space, box, reduction=reduction, keepdims=keepdims, **options)

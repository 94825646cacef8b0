"""The Gaussian policy with a full covariance between the dimensions of the action."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.distributions import MultivariateGaussian
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.distributions.special import reduce
from gaussjax.policy import checks
from gaussjax.policy.build import build
from gaussjax.policy.options import LOG_STD_BOUNDS, clip_to, clipping_options
from gaussjax.policy.policy import Kind, Policy


def multivariate_gaussian(
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
    """A Gaussian policy with a full covariance, so that the dimensions of the action are correlated.

    The actions are `mean + diag(exp(log_std)) (I + N) noise` with a strictly lower triangular N. The network
    returns N row by row as `outputs["off_diagonal"]`, `(…, act * (act - 1) / 2)` or without the leading
    dimensions. gaussjax's networks do so for this policy, and their N starts at 0. `log_std` is conditional:
    each dimension's log standard deviation given the dimensions before it. The terms of the reduction "none"
    are conditional likewise.

    Args:
        network: As for `gaussian`, with `"off_diagonal"` among its outputs.
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box. Actions are flat vectors whatever its shape.
        clip_actions: Clip the actions to the Box, each dimension on its own.
        clip_mean_actions: Clip the mean to the Box before sampling.
        clip_log_std: Clip log_std to [min_log_std, max_log_std].
        min_log_std: Lower bound, natural logarithm.
        max_log_std: Upper bound.
        reduction: "sum", "mean", "prod" or "none", as for `gaussian`.
        clipped_log_prob: "density" (of the clipped action under the unclipped normal) or
            "unclipped" (of the sample before the clip; such a policy scores raw actions only). The
            probability beyond a bound has no closed form for correlated dimensions.
        keepdims: Whether the reduced axis stays with size 1, `(…, 1)`.

    Returns:
        The policy's pure functions.

    Raises:
        ValueError: An option has no such choice, does not apply or contradicts another; or, when
            a function is traced, the network gives no off_diagonal of the right shape.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32))
        >>> policy = multivariate_gaussian(network, 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> distribution, outputs = policy.apply(params, jnp.zeros((5, 3)))
        >>> outputs["off_diagonal"].shape, distribution.covariance().shape
        ((5, 1), (5, 2, 2))
    """
    options = clipping_options(
        ("density", "unclipped"),
        clip_actions=clip_actions,
        clip_mean_actions=clip_mean_actions,
        clip_log_std=clip_log_std,
        min_log_std=min_log_std,
        max_log_std=max_log_std,
        clipped_log_prob=clipped_log_prob,
    )
    box = spaces.action_box(action_space)
    clip_to_box = clip_to(*spaces.bounds(box))
    scores_clipped = clip_actions and clipped_log_prob != "unclipped"

    def distribution(mean: Array, log_std: Array, outputs: dict[str, Any]) -> MultivariateGaussian:
        return MultivariateGaussian(mean, log_std, _off_diagonal(outputs, mean.shape))

    def sample(distribution: MultivariateGaussian, noise: Array | None, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.mean() if noise is None else distribution.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        actions = clip_to_box(raw_actions) if clip_actions else raw_actions
        if not scores_clipped:
            return raw_actions, actions, distribution.noise_log_prob(noise, reduction)
        # A clipped dimension changes the terms of all that follow.
        untouched = xp.all(actions == raw_actions, axis=-1, keepdims=True)
        exact = distribution.noise_log_prob(noise, "none")
        terms = xp.where(untouched, exact, distribution.log_prob(actions, "none"))
        return raw_actions, actions, reduce(terms, reduction)

    def log_prob(distribution: MultivariateGaussian, actions: Array, reduction: str) -> Array:
        return distribution.log_prob(actions, reduction)

    def raw_log_prob(distribution: MultivariateGaussian, raw_actions: Array, reduction: str) -> Array:
        return distribution.log_prob(clip_to_box(raw_actions) if scores_clipped else raw_actions, reduction)

    kind = Kind(
        name="multivariate_gaussian",
        distribution=distribution,
        sample=sample,
        raw_log_prob=raw_log_prob,
        log_prob=checks.taken_actions_of_unclipped if clipped_log_prob == "unclipped" else log_prob,
        network_outputs=("off_diagonal",),
        network_fields=(("output_activation", "tanh"), ("off_diagonal", True)),
        clip_mean=clip_to_box if clip_mean_actions else None,
        support=box if scores_clipped else None,
        factory=multivariate_gaussian,
    )
    return build(kind, network, observation_space, box, reduction=reduction, keepdims=keepdims, **options)


def _off_diagonal(outputs: dict[str, Any], shape: tuple[int, ...]) -> Array:
    expected = (*shape[:-1], num_pairs(shape[-1]))
    came = tuple(xp.shape(outputs["off_diagonal"])) if "off_diagonal" in outputs else f"the outputs {sorted(outputs)}"
    if came not in (expected, expected[-1:]):
        raise ValueError(
            f"network: expected outputs['off_diagonal'] of shape {expected} or {expected[-1:]}, got {came}. "
            f"It is the strictly lower triangle row by row; gaussjax's own networks return it."
        )
    return xp.broadcast_to(outputs["off_diagonal"], expected)

"""The Gaussian policy with a full covariance between the dimensions of the action."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.compiled import flag
from gaussjax.distributions import MultivariateGaussian
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.policy.build import build
from gaussjax.policy.checks import LOG_STD_BOUNDS, log_std_options
from gaussjax.policy.gaussian import clipping_kind
from gaussjax.policy.policy import Policy


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
    dimensions. gaussjax's networks return it for this policy, with N = 0 at first. `log_std` is conditional: the
    log standard deviation of each dimension given the dimensions before it. With the reduction
    "none" the log-densities are conditional in the same way.

    Args:
        network: As for `gaussian`, with `"off_diagonal"` among its outputs.
        observation_space: As for `gaussian`.
        action_space: As for `gaussian`.
        clip_actions: As for `gaussian`.
        clip_mean_actions: As for `gaussian`.
        clip_log_std: As for `gaussian`.
        min_log_std: As for `gaussian`.
        max_log_std: As for `gaussian`.
        reduction: As for `gaussian`.
        clipped_log_prob: "density" or "unclipped", as for `gaussian`. The probability beyond a bound has no
            closed form for correlated dimensions.
        keepdims: As for `gaussian`.

    Returns:
        The policy.

    Raises:
        ValueError: An option has an unknown value, has no effect or contradicts another option; or, when a function
            is traced, the network returns no off_diagonal of the right shape.
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
    options = {
        "clip_actions": flag(clip_actions, "clip_actions"),
        "clip_mean_actions": flag(clip_mean_actions, "clip_mean_actions"),
        **log_std_options(clip_log_std, min_log_std, max_log_std),
        "clipped_log_prob": clipped_log_prob,
    }
    kind = clipping_kind(
        "multivariate_gaussian",
        lambda mean, log_std, outputs: MultivariateGaussian(mean, log_std, _off_diagonal(outputs, mean.shape)),
        spaces.action_box(action_space),
        options,
        densities=("density", "unclipped"),
        # Clipping one dimension changes the log-densities of all later ones, which are conditional on it.
        untouched=lambda raw_actions, actions: xp.all(actions == raw_actions, axis=-1, keepdims=True),
        network_outputs=("off_diagonal",),
        network_fields=(("output_activation", "tanh"), ("off_diagonal", True)),
        factory=multivariate_gaussian,
    )
    return build(kind, network, observation_space, action_space, reduction=reduction, keepdims=keepdims, **options)


def _off_diagonal(outputs: dict[str, Any], shape: tuple[int, ...]) -> Array:
    expected = (*shape[:-1], num_pairs(shape[-1]))
    found = tuple(xp.shape(outputs["off_diagonal"])) if "off_diagonal" in outputs else f"the outputs {sorted(outputs)}"
    if found not in (expected, expected[-1:]):
        raise ValueError(
            f"network: expected outputs['off_diagonal'] of shape {expected} or {expected[-1:]}, got {found}. "
            f"It is the strictly lower triangle row by row; gaussjax's own networks return it."
        )
    return xp.broadcast_to(outputs["off_diagonal"], expected)

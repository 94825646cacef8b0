"""The Gaussian policy with a full covariance between the dimensions of the action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.distributions import MultivariateGaussian
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.distributions.special import reduce
from gaussjax.policy.build import Kind, build
from gaussjax.policy.options import LOG_STD_BOUNDS, clip_parameters, clip_to, clipping_options, noise_and_action
from gaussjax.policy.policy import Policy, Spec

if TYPE_CHECKING:
    from jaxtyping import Array


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
    """A policy with a normal distribution over the actions whose dimensions are correlated.

    The actions are `mean + diag(exp(log_std)) (I + N) noise`, N strictly lower triangular. The
    network gives N, row by row, as `outputs["off_diagonal"]` of shape `(…, act * (act - 1) / 2)`
    or without the leading dimensions. gaussjax's own networks do: their field `off_diagonal`,
    where None, is switched on, and N starts at 0. `log_std` is that of each dimension given the
    ones before it, and the terms of the reduction "none" are conditional likewise.

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
            "unclipped" (of the sample before the clip). The probability of what was clipped away
            has no closed form where dimensions depend on each other.
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
        reduction=reduction,
        clipped_log_prob=clipped_log_prob,
        keepdims=keepdims,
    )
    box = spaces.action_box(action_space)
    clip_to_box = clip_to(*spaces.bounds(box))

    def distribution(mean: Array, log_std: Array, outputs: dict[str, Any]) -> MultivariateGaussian:
        return MultivariateGaussian(mean, log_std, _off_diagonal(outputs, mean.shape))

    def act(distribution: MultivariateGaussian, noise: Any, reduction: str) -> tuple[Array, Array, Array]:
        noise, raw_actions = noise_and_action(distribution, noise)
        actions = clip_to_box(raw_actions) if clip_actions else raw_actions
        if not clip_actions or clipped_log_prob == "unclipped":
            return raw_actions, actions, distribution.noise_log_prob(noise, reduction)
        # One clipped dimension changes the terms of all that follow.
        untouched = xp.all(actions == raw_actions, axis=-1, keepdims=True)
        exact = distribution.noise_log_prob(noise, "none")
        terms = xp.where(untouched, exact, distribution.log_prob(actions, "none"))
        return raw_actions, actions, reduce(terms, reduction)

    def log_prob(
        distribution: MultivariateGaussian, actions: Array, raw_actions: Array | None, reduction: str
    ) -> Array:
        if clipped_log_prob == "unclipped" and raw_actions is not None:
            actions = raw_actions
        return distribution.log_prob(actions, reduction)

    transform = clip_parameters(options, clip_to_box)
    kind = Kind(transform, distribution, act, log_prob, needs=("off_diagonal",))
    spec = Spec("multivariate_gaussian", network, spaces.as_space(observation_space), box, tuple(options.items()))
    return build(spec, kind, reduction, keepdims)


def _off_diagonal(outputs: dict[str, Any], shape: tuple[int, ...]) -> Array:
    expected = (*shape[:-1], num_pairs(shape[-1]))
    came = tuple(xp.shape(outputs["off_diagonal"])) if "off_diagonal" in outputs else f"the outputs {sorted(outputs)}"
    if came not in (expected, expected[-1:]):
        raise ValueError(
            f"network: expected outputs['off_diagonal'] of shape {expected} or {expected[-1:]}, got {came}. "
            f"It is the strictly lower triangle row by row; gaussjax's own networks give it by themselves."
        )
    return xp.broadcast_to(outputs["off_diagonal"], expected)

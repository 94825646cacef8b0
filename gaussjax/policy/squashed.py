"""The Gaussian policy squashed by tanh into the bounds of the action space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gaussjax import spaces
from gaussjax.distributions import TanhGaussian
from gaussjax.distributions.special import check_reduction
from gaussjax.policy.build import Kind, build
from gaussjax.policy.options import LOG_STD_BOUNDS, clip_parameters, log_std_options, noise_and_action
from gaussjax.policy.policy import Policy, Spec

if TYPE_CHECKING:
    from jaxtyping import Array


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
    """A policy whose normal actions are bent by tanh into the Box.

    `mean_actions`, `log_std` and `raw_actions` in the outputs are those before tanh; the mean is
    best left without an activation of its own (`output_activation=None`). Log-densities are in
    nats per unit of the Box. The deterministic action is the squashed mean, which is the median
    of the actions: half of all samples lie to either side, in each dimension. It is neither their
    mean nor their mode; `apply` returns the distribution, which has all three.

    Pass `raw_actions=outputs["raw_actions"]` to `evaluate` where they are at hand. From the
    actions alone those near the edge are recovered only roughly, and those at the edge are scored
    as if 2⁻²⁴ of half the width within it; nothing is ever infinite.

    Args:
        network: As for `gaussian`.
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box that is bounded in every dimension.
        clip_log_std: Clip log_std to [min_log_std, max_log_std].
        min_log_std: Lower bound, natural logarithm.
        max_log_std: Upper bound.
        reduction: "sum", "mean", "prod" or "none", as for `gaussian`.
        keepdims: Whether the reduced axis stays with size 1, `(…, 1)`.

    Returns:
        The policy's pure functions.

    Raises:
        ValueError: A dimension of the Box is open or has no width, or an option has no such choice.
        TypeError: The action space is not a Box.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> network = gaussjax.networks.MLP((64, 32), output_activation=None)
        >>> policy = squashed_gaussian(network, 3, gaussjax.spaces.Box(-2.0, 2.0, (2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> actions.shape, log_prob.shape
        ((5, 2), (5, 1))

    Source:
        Haarnoja et al. 2018, soft actor-critic (arXiv:1801.01290), appendix C.
    """
    check_reduction(reduction)
    options = {
        **log_std_options(clip_log_std, min_log_std, max_log_std),
        "reduction": reduction,
        "keepdims": bool(keepdims),
    }
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)
    _refuse_open(low, high)

    def act(distribution: TanhGaussian, noise: Any, reduction: str) -> tuple[Array, Array, Array]:
        noise, raw_actions = noise_and_action(distribution.base, noise)
        return raw_actions, distribution.squash(raw_actions), distribution.noise_log_prob(noise, reduction)

    def log_prob(distribution: TanhGaussian, actions: Array, raw_actions: Array | None, reduction: str) -> Array:
        return distribution.log_prob(actions, reduction, raw_actions=raw_actions)

    sides = tuple(low.tolist()), tuple(high.tolist())
    transform = clip_parameters(options)
    kind = Kind(transform, lambda mean, log_std, _: TanhGaussian(mean, log_std, *sides), act, log_prob)
    spec = Spec("squashed_gaussian", network, spaces.as_space(observation_space), box, tuple(options.items()))
    return build(spec, kind, reduction, keepdims)


def _refuse_open(low: np.ndarray, high: np.ndarray) -> None:
    # Actions are float32, in which two bounds may be one number, and a large one infinite.
    with np.errstate(over="ignore"):
        lower, upper = low.astype(np.float32), high.astype(np.float32)
    unusable = np.flatnonzero(~(np.isfinite(lower) & np.isfinite(upper) & (lower < upper)))
    if unusable.size:
        raise ValueError(
            f"action_space: expected a Box with two finite bounds, low < high in float32, in every dimension, got low "
            f"{low[unusable].tolist()} and high {high[unusable].tolist()} in the dimensions {unusable.tolist()}. "
            f"Bound them in the environment (gymnasium.wrappers.RescaleAction), or use gaussjax.gaussian."
        )

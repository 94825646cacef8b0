"""The diagonal Gaussian policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import like_actions, xp
from gaussjax.core.choices import choose
from gaussjax.core.compiled import flag
from gaussjax.distributions import CensoredGaussian, DiagGaussian, reduce
from gaussjax.policy.build import build
from gaussjax.policy.checks import LOG_STD_BOUNDS, log_std_options, taken_actions_of_unclipped
from gaussjax.policy.policy import Kind, MakeDistribution, Policy


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
    """A policy whose actions have a diagonal Gaussian distribution.

    Args:
        network: One of `gaussjax.networks`, or any object with `init(key, observations)` and
            `apply(params, observations) -> (mean, log_std, dict)`, such as your own `flax.linen` module. A field
            `num_actions` that is None is set to the number of actions.
        observation_space: A Gymnasium space, an int (length of a vector) or a shape.
        action_space: A Gymnasium Box of any shape; actions are flat vectors.
        clip_actions: Clip each dimension of the actions to the Box; an infinite bound leaves its side open.
        clip_mean_actions: Clip the mean to the Box before sampling.
        clip_log_std: Clip log_std to [min_log_std, max_log_std].
        min_log_std: Lower bound, natural logarithm.
        max_log_std: Upper bound, natural logarithm.
        reduction: Reduction of the log-densities over the dimensions: "sum" (joint density), "mean", "prod"
            (product of log-densities, for compatibility) or "none".
        clipped_log_prob: Log-density of a clipped action: "density" (of the clipped value under the unclipped
            normal), "unclipped" (of the sample before the clip; such a policy scores raw actions only) or
            "censored" (the probability of the tail beyond the bound, in the entropy as well).
        keepdims: Keep the reduced axis with size 1, `(…, 1)`.

    Returns:
        The policy.

    Raises:
        ValueError: An option has an unknown value, has no effect or contradicts another option.
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
    options = {
        "clip_actions": flag(clip_actions, "clip_actions"),
        "clip_mean_actions": flag(clip_mean_actions, "clip_mean_actions"),
        **log_std_options(clip_log_std, min_log_std, max_log_std),
        "clipped_log_prob": clipped_log_prob,
    }
    box = spaces.action_box(action_space)
    low, high = spaces.bounds(box)

    def censored(distribution: CensoredGaussian, noise: Any, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.loc if noise is None else distribution.base.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        return raw_actions, distribution.clip(raw_actions), distribution.noise_log_prob(noise, reduction)

    kind = clipping_kind(
        "gaussian",
        lambda mean, log_std, _: DiagGaussian(mean, log_std),
        box,
        options,
        densities=("density", "unclipped", "censored"),
        untouched=lambda raw_actions, actions: actions == raw_actions,
        factory=gaussian,
    )
    if clipped_log_prob == "censored":
        sides = tuple(low.tolist()), tuple(high.tolist())
        kind = kind._replace(
            distribution=lambda mean, log_std, _: CensoredGaussian(mean, log_std, *sides),
            sample=censored,
            # Scores a raw action with the probability of the bound that it is clipped to.
            raw_log_prob=lambda distribution, raw, reduction: distribution.log_prob(raw, reduction),
        )
    return build(kind, network, observation_space, box, reduction=reduction, keepdims=keepdims, **options)


def clipping_kind(
    name: str,
    distribution: MakeDistribution,
    box: spaces.Box,
    options: Mapping[str, Any],
    densities: tuple[str, ...],
    untouched: Callable[[Array, Array], Array],
    **fields: Any,
) -> Kind:
    """Makes a kind of policy whose options can clip the actions and the mean to a Box.

    `densities` lists the valid values of the option `clipped_log_prob`. `untouched(raw_actions, actions)` returns a
    mask: True for log-density terms that the clip does not change.
    """
    density, clips = options["clipped_log_prob"], options["clip_actions"]
    if density not in densities:
        choose(dict.fromkeys(densities), density, "clipped_log_prob")
    if density != "density" and not clips:
        raise ValueError(
            f"clipped_log_prob: {density!r} applies to clipped actions only, got clip_actions=False. Set "
            f"clip_actions=True or leave clipped_log_prob out."
        )
    scores_clipped = clips and density != "unclipped"
    low, high = spaces.bounds(box)

    def clip(actions: Array) -> Array:
        return xp.clip(actions, *like_actions(low, high, actions))

    def sample(distribution: Any, noise: Array | None, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.mean() if noise is None else distribution.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        actions = clip(raw_actions) if clips else raw_actions
        if not scores_clipped:
            return raw_actions, actions, distribution.noise_log_prob(noise, reduction)
        # Terms that the clip does not change are computed from the noise, which has more digits than the action.
        exact, clipped = distribution.noise_log_prob(noise, "none"), distribution.log_prob(actions, "none")
        return raw_actions, actions, reduce(xp.where(untouched(raw_actions, actions), exact, clipped), reduction)

    def raw_log_prob(distribution: Any, raw_actions: Array, reduction: str) -> Array:
        return distribution.log_prob(clip(raw_actions) if scores_clipped else raw_actions, reduction)

    score = {"log_prob": taken_actions_of_unclipped} if density == "unclipped" else {}
    return Kind(
        name,
        distribution,
        sample,
        raw_log_prob,
        clip_mean=clip if options["clip_mean_actions"] else None,
        support=box if scores_clipped else None,
        **score,
        **fields,
    )

"""Options that the factories share: their validation, and their effect on mean, log_std and actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.distributions.special import reduce
from gaussjax.policy import checks
from gaussjax.policy.policy import Kind, MakeDistribution, Score

LOG_STD_BOUNDS = (-20.0, 2.0)


def log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> dict[str, Any]:
    """Validated options that clip log_std."""
    if not min_log_std <= max_log_std:
        raise ValueError(
            f"min_log_std: expected a value <= max_log_std, got min_log_std={min_log_std} and "
            f"max_log_std={max_log_std}."
        )
    if not clip_log_std and (min_log_std, max_log_std) != LOG_STD_BOUNDS:
        raise ValueError(
            f"clip_log_std: min_log_std={min_log_std} and max_log_std={max_log_std} apply only where log_std is "
            f"clipped, got clip_log_std=False. Set clip_log_std=True or leave the bounds out."
        )
    return {"clip_log_std": bool(clip_log_std), "min_log_std": float(min_log_std), "max_log_std": float(max_log_std)}


def clipping_kind(
    name: str,
    distribution: MakeDistribution,
    box: spaces.Box,
    options: Mapping[str, Any],
    densities: tuple[str, ...],
    log_prob: Score,
    untouched: Callable[[Array, Array], Array],
    **fields: Any,
) -> Kind:
    """A kind of policy whose options may clip actions and mean to a Box.

    `densities` are the choices of the option `clipped_log_prob`, and `log_prob` scores actions with the chosen one.
    `untouched` is a function `(raw_actions, actions) -> mask` of the terms that the clip does not change.
    """
    density, clips = options["clipped_log_prob"], options["clip_actions"]
    choose(dict.fromkeys(densities), density, "clipped_log_prob")
    if density != "density" and not clips:
        raise ValueError(
            f"clipped_log_prob: {density!r} applies to clipped actions only, got clip_actions=False. Set "
            f"clip_actions=True or leave clipped_log_prob out."
        )
    scores_clipped = clips and density != "unclipped"
    low, high = spaces.bounds(box)

    def clip(actions: Array) -> Array:
        return xp.clip(actions, *sides(low, high, actions))

    def sample(distribution: Any, noise: Array | None, reduction: str) -> tuple[Array, Array, Array]:
        raw_actions = distribution.mean() if noise is None else distribution.from_noise(noise)
        noise = xp.zeros_like(raw_actions) if noise is None else noise
        actions = clip(raw_actions) if clips else raw_actions
        if not scores_clipped:
            return raw_actions, actions, distribution.noise_log_prob(noise, reduction)
        mask, exact = untouched(raw_actions, actions), distribution.noise_log_prob(noise, "none")
        return raw_actions, actions, reduce(xp.where(mask, exact, log_prob(distribution, actions, "none")), reduction)

    def raw_log_prob(distribution: Any, raw_actions: Array, reduction: str) -> Array:
        return log_prob(distribution, clip(raw_actions) if scores_clipped else raw_actions, reduction)

    return Kind(
        name,
        distribution,
        sample,
        raw_log_prob,
        log_prob=checks.taken_actions_of_unclipped if density == "unclipped" else log_prob,
        clip_mean=clip if options["clip_mean_actions"] else None,
        support=box if scores_clipped else None,
        **fields,
    )


def sides(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """The bounds of a Box in the shape and dtype of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest

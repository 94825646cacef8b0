"""What the factories have in common: their options, checked, and what these do to means, log_stds and actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose
from gaussjax.distributions.special import check_reduction

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array

LOG_STD_BOUNDS = (-20.0, 2.0)


def clipping_options(
    densities: tuple[str, ...],
    *,
    clip_actions: bool,
    clip_mean_actions: bool,
    clip_log_std: bool,
    min_log_std: float,
    max_log_std: float,
    reduction: str,
    clipped_log_prob: str,
    keepdims: bool,
) -> dict[str, Any]:
    """The options of a policy whose actions can be clipped, as its spec holds them; `densities` for `clipped_log_prob`.

    Raises:
        ValueError: One has no such choice, or they contradict each other, or nothing would apply one.
    """
    check_reduction(reduction)
    choose(dict.fromkeys(densities), clipped_log_prob, "clipped_log_prob")
    if clipped_log_prob != "density" and not clip_actions:
        raise ValueError(
            f"clipped_log_prob: {clipped_log_prob!r} applies to clipped actions only, got clip_actions=False. "
            f"Set clip_actions=True or leave clipped_log_prob out."
        )
    return {
        "clip_actions": bool(clip_actions),
        "clip_mean_actions": bool(clip_mean_actions),
        **log_std_options(clip_log_std, min_log_std, max_log_std),
        "reduction": reduction,
        "clipped_log_prob": clipped_log_prob,
        "keepdims": bool(keepdims),
    }


def log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> dict[str, Any]:
    """The options on log_std, as a spec holds them.

    Raises:
        ValueError: The bounds cross, or they are given where log_std is not clipped.
    """
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
    return {
        "clip_log_std": bool(clip_log_std),
        "min_log_std": float(min_log_std),
        "max_log_std": float(max_log_std),
    }


def clip_parameters(
    options: Mapping[str, Any], clip_to_box: Callable[[Array], Array] | None = None
) -> Callable[[Array, Array], tuple[Array, Array]]:
    """A function that clips the mean and log_std as the options say."""
    clip_mean = clip_to_box if options.get("clip_mean_actions") else None

    def transform(mean: Array, log_std: Array) -> tuple[Array, Array]:
        if options["clip_log_std"]:
            log_std = xp.clip(log_std, options["min_log_std"], options["max_log_std"])
        return mean if clip_mean is None else clip_mean(mean), log_std

    return transform


def noise_and_action(distribution: Any, noise: Array | None) -> tuple[Array, Array]:
    """The noise, which is zero where there is none, and the action that it leads to."""
    if noise is None:
        mean = distribution.mean()
        return xp.zeros_like(mean), mean
    return noise, distribution.from_noise(noise)


def sides(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """The bounds of a Box in the shape and type of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest


def clip_to(low: np.ndarray, high: np.ndarray) -> Callable[[Array], Array]:
    """A function that clips actions to a Box, each dimension on its own."""
    return lambda actions: xp.clip(actions, *sides(low, high, actions))

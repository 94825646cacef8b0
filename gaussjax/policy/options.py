"""Options that the factories share: validation, and their effect on mean, log_std and actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose

LOG_STD_BOUNDS = (-20.0, 2.0)


def clipping_options(
    densities: tuple[str, ...],
    *,
    clip_actions: bool,
    clip_mean_actions: bool,
    clip_log_std: bool,
    min_log_std: float,
    max_log_std: float,
    clipped_log_prob: str,
) -> dict[str, Any]:
    """Options of a policy whose actions can be clipped, validated; `densities` are the choices of `clipped_log_prob`.

    Raises:
        ValueError: An option has no such choice, contradicts another or would have no effect.
    """
    if clipped_log_prob not in densities:
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
        "clipped_log_prob": clipped_log_prob,
    }


def log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> dict[str, Any]:
    """Options of log_std, validated.

    Raises:
        ValueError: The bounds cross, or bounds are given although log_std is not clipped.
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


def sides(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """The bounds of a Box in the shape and dtype of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest


def clip_to(low: np.ndarray, high: np.ndarray) -> Callable[[Array], Array]:
    """A function that clips actions to a Box, each dimension on its own."""
    return lambda actions: xp.clip(actions, *sides(low, high, actions))

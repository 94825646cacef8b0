"""Helpers of the policy factories: validation of log_std options, and bounds of a Box as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import xp

LOG_STD_BOUNDS = (-20.0, 2.0)


def log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> dict[str, Any]:
    """Validates the options that clip log_std and returns them as a dict."""
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


def like_actions(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """Returns two vectors `(act,)`, such as the bounds of a Box, in the shape and the dtype of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest

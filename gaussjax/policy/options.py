"""Options that the factories share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array

from gaussjax.core.arrays import xp

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


def sides(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """Two vectors of a Box, such as its bounds, in the shape and dtype of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest

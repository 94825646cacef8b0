"""What the factories have in common: the bounds on log_std and on the actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gaussjax.arrays import xp
from gaussjax.networks.layers import choose

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array

LOG_STD_BOUNDS = (-20.0, 2.0)


def check_log_std_options(clip_log_std: bool, min_log_std: float, max_log_std: float) -> None:
    """Refuses bounds that contradict each other, or that nothing would apply.

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


def check_clipped_log_prob(choices: Mapping[str, str], clipped_log_prob: str, clip_actions: bool) -> None:
    """Refuses a density of clipped actions that does not exist, or that nothing would apply.

    Raises:
        ValueError: There is no such choice, or actions are not clipped.
    """
    choose(choices, clipped_log_prob, "clipped_log_prob")
    if clipped_log_prob != "density" and not clip_actions:
        raise ValueError(
            f"clipped_log_prob: {clipped_log_prob!r} applies to clipped actions only, got clip_actions=False. "
            f"Set clip_actions=True or leave clipped_log_prob out."
        )


def sides(low: np.ndarray, high: np.ndarray, actions: Array) -> tuple[Array, Array]:
    """The bounds of a Box in the shape and type of the actions."""
    lowest, highest = (xp.broadcast_to(xp.constant(side, actions), actions.shape) for side in (low, high))
    return lowest, highest


def clip_to(low: np.ndarray, high: np.ndarray) -> Callable[[Array], Array]:
    """A function that clips actions to a Box, each dimension on its own."""
    return lambda actions: xp.clip(actions, *sides(low, high, actions))

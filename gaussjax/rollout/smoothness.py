"""Smoothness of the actions of whole episodes: their change per step, and the share of their fast changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gaussjax import spaces


class Smoothness(NamedTuple):
    """Smoothness of actions over time.

    Attributes:
        change: Mean absolute change of an action component from one step to the next, in units of the action.
        relative_change: The same, with each component in half widths of the Box; NaN if a bound is infinite.
        fast_share: Share of the variance of the actions over time at frequencies above half the Nyquist rate, which are
            periods shorter than 4 steps; from 0 to 1. It is 0.5 for white noise, and 0 for constant actions.
    """

    change: float
    relative_change: float
    fast_share: float


def smoothness(actions: Any, lengths: Sequence[int], action_space: Any = None) -> Smoothness:
    """Smoothness of the actions of several episodes.

    The spectrum is the periodogram of each component of each episode, without its mean and without a window. The powers
    are summed over episodes and components, with components in half widths of a Box with finite bounds.

    Args:
        actions: Actions of the episodes, `(T, N, A)`; those after the end of an episode do not count.
        lengths: Number of steps of each episode, at most `T`.
        action_space: The Box of the actions, or None for unbounded actions.

    Returns:
        The figures over all episodes. Without two successive actions all are 0.

    Raises:
        ValueError: `actions` has not three axes, or `lengths` not one number from 0 to `T` for each episode.

    Example:
        >>> alternating = np.tile([1.0, -1.0], 8)[:, None, None]
        >>> smoothness(alternating, [16], spaces.Box(-1.0, 1.0, (1,)))
        Smoothness(change=2.0, relative_change=2.0, fast_share=1.0)
    """
    actions = np.asarray(actions, np.float64)
    if actions.ndim != 3:
        raise ValueError(f"actions: expected the axes (time, episodes, act), got the shape {actions.shape}.")
    if len(lengths) != actions.shape[1] or not all(0 <= length <= len(actions) for length in lengths):
        raise ValueError(
            f"lengths: expected a number from 0 to {len(actions)} for each of {actions.shape[1]} episodes, got "
            f"{list(lengths)}."
        )
    half = np.full(actions.shape[2], np.inf)
    if action_space is not None:
        low, high = spaces.bounds(spaces.action_box(action_space))
        half = 0.5 * high - 0.5 * low
    bounded = bool(np.isfinite(half).all() and (half > 0.0).all())
    changes, fast, total = [], 0.0, 0.0
    for episode, length in enumerate(lengths):
        rows = actions[:length, episode]
        if length < 2:
            continue
        changes.append(np.abs(np.diff(rows, axis=0)))
        # The first action is subtracted before the mean, so that equal actions have no power at all.
        rows = (rows - rows[0]) / (half if bounded else 1.0)
        power = np.abs(np.fft.rfft(rows - rows.mean(axis=0), axis=0)) ** 2
        # Each bin stands for two frequencies, f and -f, except the highest bin of an even length.
        power[1 : (length + 1) // 2] *= 2.0
        above = 4 * np.arange(len(power)) > length
        fast, total = fast + power[above].sum(), total + power[1:].sum()
    if not changes:
        return Smoothness(0.0, 0.0, 0.0)
    change = np.concatenate(changes).mean(axis=0)
    relative = float((change / half).mean()) if bounded else float("nan")
    return Smoothness(float(change.mean()), relative, float(fast / total) if total else 0.0)

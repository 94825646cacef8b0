"""The record of recorded experience that every reader fills and every learner takes."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Bool, Float


class Episodes(NamedTuple):
    """Episodes one after the other, with one row for each step.

    A leaf is a NumPy array, a memory map of a file, or another array of rows that is read by slices.

    Attributes:
        observations: Observation before each action: an array `(T, ...)`, or a pytree of them for Dict and Tuple
            spaces, in the dtypes of the space.
        actions: Actions in units of the Box, `(T, ...)`.
        starts: True in the first row of each episode, `(T,)`; None where the source does not tell.
        rewards: Reward of each action, `(T,)`, or None.
        terminated: True in a last row after which the environment ended, `(T,)`, or None.
        truncated: True in a last row after which the recording or a time limit ended, `(T,)`, or None.
        weights: Weight of each row in a loss, `(T,)`, or None for equal weights.
    """

    observations: Any
    actions: Any
    starts: Bool[Any, " steps"] | None = None
    rewards: Float[Any, " steps"] | None = None
    terminated: Bool[Any, " steps"] | None = None
    truncated: Bool[Any, " steps"] | None = None
    weights: Float[Any, " steps"] | None = None

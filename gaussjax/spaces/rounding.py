"""A warning about observations of 64 bits whose changes float32, in which they are kept, cannot resolve."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

# The last of the sampled steps 1, 2, 4, …
_LAST_STEP = 64


def warn_of_lost_changes(rows: np.ndarray, name: str, stacklevel: int = 2) -> bool:
    """Warns if rounding to float32 adds errors of more than a 64th of the standard deviation of an entry.

    Deviations count as 10⁻⁴ at the least, because statistics of observations do so, and those below 10⁻⁵ as none.

    Args:
        rows: Numbers of 64 bits, `(rows, …)`. None are looked at if any is beyond float32, infinite or NaN.
        name: Name of the numbers in the warning.
        stacklevel: Place of the warning, as in `warnings.warn`.

    Returns:
        Whether it has warned.

    Example:
        >>> warn_of_lost_changes(np.array([[0.1], [0.2], [0.3]]), "observations")
        False
    """
    rows = rows.astype(np.float64)
    if not rows.size or not (np.abs(rows) <= np.finfo(np.float32).max).all():
        return False
    # The first row is subtracted first: the rounded mean of a constant entry would give it a deviation above 0.
    deviation = (rows - rows[:1]).std(axis=0)
    added = (rows - rows.astype(np.float32)).std(axis=0)
    lost = np.argwhere((deviation > 1e-5) & (added > np.hypot(deviation, 1e-4) / 64))
    if len(lost):
        entry = tuple(lost[0].tolist())
        place = ", ".join(map(str, entry)) + (f" and {len(lost) - 1} more" if len(lost) > 1 else "")
        warnings.warn(
            f"{name}: expected entries that float32 can resolve, got entry {place}, with mean "
            f"{rows[:, *entry].mean():.1g} and standard deviation {deviation[entry]:.1g}. Rounding to float32 loses "
            f"its changes. Subtract a constant from it, in the environment or in the dataset.",
            stacklevel=stacklevel + 1,
        )
    return len(lost) > 0


class RoundingCheck:
    """Samples observations of 64 bits in the first steps of a rollout, and warns once if float32 loses their changes.

    Args:
        path: Names of the part of the observations, from the outside in.
    """

    def __init__(self, path: tuple[Any, ...]):
        self._path, self._warned = path, False
        self._rows: list[np.ndarray] = []

    def add(self, observations: Any, step: int) -> None:
        """Takes the observations of all environments after a step, `(N, …)` in each part."""
        if step > _LAST_STEP or step & (step - 1) or self._warned:
            return
        if step == 1:
            self._rows.clear()
        self._rows.append(np.array(reduce(getitem, self._path, observations)))
        if step == _LAST_STEP:
            name = "observations" + "".join(f"[{part!r}]" for part in self._path)
            self._warned = warn_of_lost_changes(np.concatenate(self._rows), name, stacklevel=4)

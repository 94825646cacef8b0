"""A warning about numbers of 64 bits whose changes float32, in which they are kept, cannot tell apart."""

from __future__ import annotations

import warnings
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

# The looks at a rollout: after its steps 1, 2, 4, …, 64.
_LAST_LOOK = 64


def warn_of_lost_digits(rows: np.ndarray, name: str, stacklevel: int = 2) -> None:
    """Warns if rounding to float32 removes more than a 64th of the standard deviation of an entry.

    Deviations count as 10⁻⁴ at the least, because statistics of observations do so, and constants lose nothing.

    Args:
        rows: Numbers of 64 bits, `(rows, …)`.
        name: Name of the numbers in the warning.
        stacklevel: Place of the warning, as in `warnings.warn`.

    Example:
        >>> warn_of_lost_digits(np.array([[0.1], [0.2], [0.3]]), "observations")
    """
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    # Differences from a row, because the mean of a constant is rounded.
    deviation = (rows - rows[:1]).std(axis=0)
    lost = np.sqrt(np.mean(np.square(rows - rows.astype(np.float32)), axis=0))
    entries = np.flatnonzero((deviation > 1e-6) & (lost > np.hypot(deviation, 1e-4) / 64))
    if len(entries):
        first, others = entries[0], f" and {len(entries) - 1} more" if len(entries) > 1 else ""
        warnings.warn(
            f"{name}: expected changes that float32 can hold, got entry {first}{others}, which changes by about "
            f"{deviation[first]:.2g} around {rows[:, first].mean():.4g}. It is kept rounded. Subtract a constant from "
            f"it, in the environment or in the dataset.",
            stacklevel=stacklevel + 1,
        )


class Looks:
    """Looks at observations of 64 bits in some of the first steps of a rollout, for `warn_of_lost_digits`.

    Args:
        path: Names of the part of the observations, from the outside in.
    """

    def __init__(self, path: tuple[Any, ...]):
        self._path = path
        self._rows: list[np.ndarray] = []

    def add(self, observations: Any, step: int) -> None:
        """Looks at the observations of all environments after a step, `(N, …)` in each part."""
        if step > _LAST_LOOK or step & (step - 1):
            return
        if step == 1:
            self._rows.clear()
        self._rows.append(np.array(reduce(getitem, self._path, observations)))
        if step == _LAST_LOOK:
            name = "observations" + "".join(f"[{part!r}]" for part in self._path)
            warn_of_lost_digits(np.concatenate(self._rows), name, stacklevel=4)

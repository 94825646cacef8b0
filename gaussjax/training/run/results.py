"""What a training leaves in its folder: metrics, checkpoints and policies."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax import files
from gaussjax.envs.snapshot import UnsavableError
from gaussjax.files import container
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.parallel import processes, sharding
from gaussjax.training.run import checkpoint, report

CONFIG, METRICS, POLICY, BEST = "config.json", "metrics.csv", "policy.safetensors", "best.safetensors"


def opened(
    folder: Path, algorithm: Algorithm, described: Mapping[str, Any], score: str, best: float | None, state: Any
) -> _Results | _Follower:
    """The results of a run from that state on, which the first of several processes writes."""
    return _Results(folder, algorithm, described, score, best, state) if processes.leads() else _Follower()


def drop_later_rows(path: Path, steps: int) -> None:
    """Keeps the metrics up to a step; what follows is measured again."""
    if not path.exists():
        return
    rows = report.whole_rows(path)
    kept = rows[:1] + [row for row in rows[1:] if row[0].isdecimal() and int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


class _Kept(NamedTuple):
    """What a policy file needs of a state, on the host."""

    params: Any
    statistics: Any
    steps: int


class _Results:
    """What a run writes besides its metrics."""

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        described: Mapping[str, Any],
        score: str,
        best: float | None,
        state: Any,
    ):
        self.folder, self.algorithm, self.described = folder, algorithm, described
        # A run that was broken off may have written a better one than its checkpoint knows.
        scores = [value for value in (best, _score(folder / BEST, score)) if value is not None]
        self.score, self.best = score, max(scores, default=None)
        options = json.loads((folder / CONFIG).read_text())
        self._normalized = options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        self.keep(state)
        self._metrics = report.MetricsFile(folder / METRICS)

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._metrics.__exit__(*raised)

    def write(self, row: Mapping[str, float]) -> None:
        """Adds a row of metrics."""
        self._metrics.write(row)

    def keep(self, state: Any) -> None:
        """Copies what the next step would take away, for an algorithm that uses up its state."""
        if self.algorithm.in_place:
            self._last = self._copy(state)

    def note(self, row: Mapping[str, float], before: Any, state: Any) -> None:
        """Remembers the best policy so far: the one that the score is of."""
        reached = row[self.score]
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(before if self.algorithm.on_policy else state)

    def rescue(self, state: Any) -> None:
        """Writes what a step that was broken off began with, as far as it is still there."""
        # The others would have to take part, and may have ended.
        if self.algorithm.in_place or processes.several():
            return
        # The first error is to be told, whatever breaks here, such as an environment that is asked where it stands.
        with contextlib.suppress(Exception):
            # An older checkpoint from which the numbers are those of no interruption is the better one.
            if not ((self.folder / checkpoint.LATEST).exists() and self._stand() is not None):
                self.checkpoint(state, moved=True)

    def checkpoint(self, state: Any, moved: bool = False) -> None:
        """Writes all that the next step needs, and the best policy if it is a new one.

        Environments of the host that have moved on from the state are not written.
        """
        # Of several processes, most of the environments stand in others.
        stand = None if moved or processes.several() else self._stand()
        extra = {"best": self.best, **({} if self.algorithm.runner is None else {"environments": stand})}
        checkpoint.save(self.folder, sharding.fetched(state), extra)
        self._save_best()

    def _stand(self) -> dict[str, Any] | None:
        """Where the environments of the host stand, or None where that cannot be said."""
        try:
            return self.algorithm.runner and self.algorithm.runner.capture()
        except UnsavableError:
            return None

    def finish(self, state: Any) -> None:
        """Writes the policy of the last whole update, and the best one."""
        self._save(POLICY, self._last or self._copy(state))
        self._save_best()

    def _copy(self, state: Any) -> _Kept:
        statistics = state.observation_statistics if self._normalized else None
        params, statistics = jax.device_get((state.params, statistics))
        return _Kept(params, statistics, int(state.steps))

    def _save_best(self) -> None:
        if self._best is not None:
            self._save(BEST, self._best, {self.score: self.best})
            self._best = None

    def _save(self, name: str, kept: _Kept, more: Mapping[str, Any] | None = None) -> None:
        metadata = {**self.described, **(more or {}), "steps": kept.steps}
        policy, statistics = self.algorithm.policy, kept.statistics
        files.save(self.folder / name, policy, kept.params, normalizer=statistics, metadata=metadata)


def _score(path: Path, score: str) -> float | None:
    """That of a policy that is there already, or None."""
    try:
        found = container.read(path)[1]["metadata"][score]
    except (OSError, KeyError, TypeError, files.PolicyFileError):
        return None
    return found if isinstance(found, float) else None


class _Follower(contextlib.nullcontext[None]):
    """Takes part in what all processes have to do for `_Results`, and writes nothing."""

    def checkpoint(self, state: Any) -> None:
        sharding.fetched(state)

    def rescue(self, *_: Any) -> None: ...

    def keep(self, *_: Any) -> None: ...

    def write(self, *_: Any) -> None: ...

    def note(self, *_: Any) -> None: ...

    def finish(self, *_: Any) -> None: ...

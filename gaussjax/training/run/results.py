"""The files that a training leaves in its folder: metrics, checkpoints and policies."""

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
from gaussjax.training.run import checkpoint

CONFIG, METRICS, POLICY, BEST = "config.json", "metrics.csv", "policy.safetensors", "best.safetensors"


class MetricsFile:
    """A CSV file that grows by one row per update, is complete after each, and continues an existing file.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> with MetricsFile(path) as metrics:
        ...     metrics.write({"step": 64, "episode_return": -1200.0})
        >>> path.read_text().split()
        ['step,episode_return', '64,-1200.0']
    """

    def __init__(self, path: Path):
        # The first row of an existing file names the columns.
        columns = path.read_text().partition("\n")[0].strip() if path.exists() else ""
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns.split(",")) if columns else None

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, row: Mapping[str, float]) -> None:
        """Adds a row; the first one sets the columns."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()


def whole_rows(path: Path) -> list[list[str]]:
    """Names of the columns, then the rows, as text; an incomplete row is left out."""
    # An incomplete row has no end of line.
    whole, _, _ = path.read_text().rpartition("\n")
    rows = list(csv.reader(whole.splitlines()))
    return [row for row in rows if len(row) == len(rows[0])]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The metrics of each update; an incomplete row is left out.

    Args:
        path: Path of the CSV file.

    Returns:
        A dict of metrics for each update.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.csv"
        >>> with MetricsFile(path) as metrics:
        ...     metrics.write({"step": 64, "entropy": 1.5})
        >>> read_metrics(path)
        [{'step': 64.0, 'entropy': 1.5}]
    """
    rows = whole_rows(path)
    return [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]


def drop_later_rows(path: Path, steps: int) -> None:
    """Drops the rows after a step; a resumed training writes them again."""
    if not path.exists():
        return
    rows = whole_rows(path)
    kept = rows[:1] + [row for row in rows[1:] if row[0].isdecimal() and int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


def open_results(
    folder: Path, algorithm: Algorithm, metadata: Mapping[str, Any], score: str, best: float | None, state: Any
) -> _Results | _Follower:
    """Results of a run from this state on; only the first of several processes writes them."""
    return _Results(folder, algorithm, metadata, score, best, state) if processes.leads() else _Follower()


class _Kept(NamedTuple):
    """The parts of a state that a policy file needs, on the host."""

    params: Any
    statistics: Any
    steps: int


class _Results:
    """Writer of the results."""

    def __init__(
        self,
        folder: Path,
        algorithm: Algorithm,
        metadata: Mapping[str, Any],
        score: str,
        best: float | None,
        state: Any,
    ):
        self.folder, self.algorithm, self.metadata = folder, algorithm, metadata
        # A run that broke off may have written a better policy than its last checkpoint knows.
        scores = [value for value in (best, _saved_score(folder / BEST, score)) if value is not None]
        self.score, self.best = score, max(scores, default=None)
        options = json.loads((folder / CONFIG).read_text())
        self._normalized = options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        self.keep(state)
        self._metrics = MetricsFile(folder / METRICS)
        self.write = self._metrics.write

    def __enter__(self) -> _Results:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._metrics.__exit__(*raised)

    def keep(self, state: Any) -> None:
        """Copies the policy for `finish` if the next step of the algorithm consumes the state."""
        if self.algorithm.in_place:
            self._last = self._copy(state)

    def note_best(self, row: Mapping[str, float], before: Any, state: Any) -> None:
        """Copies the policy if its score is the best so far."""
        reached = row[self.score]
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(before if self.algorithm.on_policy else state)

    def rescue(self, state: Any) -> None:
        """Writes the state before an update that broke off, if it still exists."""
        # The other processes would have to take part, and may have ended.
        if self.algorithm.in_place or processes.several():
            return
        # Suppress errors here so that the original one is raised.
        with contextlib.suppress(Exception):
            # An older checkpoint is better if a training resumed from it equals an uninterrupted one.
            if not ((self.folder / checkpoint.LATEST).exists() and self._environments() is not None):
                self.checkpoint(state, moved=True)

    def checkpoint(self, state: Any, moved: bool = False) -> None:
        """Writes the state for `restore`, and a new best policy; host environments that have moved on are left out."""
        # In several processes each one has only its own environments.
        environments = None if moved or processes.several() else self._environments()
        extra = {"best": self.best, **({} if self.algorithm.runner is None else {"environments": environments})}
        checkpoint.save(self.folder, sharding.fetched(state), extra)
        self._save_best()

    def finish(self, state: Any) -> None:
        """Writes the policy of the last whole update, and a new best policy."""
        self._save(POLICY, self._last or self._copy(state))
        self._save_best()

    def _environments(self) -> dict[str, Any] | None:
        """State of the host environments, or None if it cannot be saved."""
        try:
            return self.algorithm.runner and self.algorithm.runner.capture()
        except UnsavableError:
            return None

    def _copy(self, state: Any) -> _Kept:
        statistics = state.observation_statistics if self._normalized else None
        params, statistics = jax.device_get((state.params, statistics))
        return _Kept(params, statistics, int(state.steps))

    def _save_best(self) -> None:
        if self._best is not None:
            self._save(BEST, self._best, {self.score: self.best})
            self._best = None

    def _save(self, name: str, kept: _Kept, more: Mapping[str, Any] | None = None) -> None:
        metadata = {**self.metadata, **(more or {}), "steps": kept.steps}
        files.save(
            self.folder / name, self.algorithm.policy, kept.params, normalizer=kept.statistics, metadata=metadata
        )


def _saved_score(path: Path, score: str) -> float | None:
    """Score in the metadata of a policy file, or None."""
    if not path.exists():
        return None
    try:
        found = container.read(path)[1]["metadata"][score]
    except (OSError, KeyError, TypeError, files.PolicyFileError):
        return None
    return found if isinstance(found, float) else None


class _Follower(contextlib.nullcontext[None]):
    """Takes part in the communication that `_Results` needs, and writes nothing."""

    def checkpoint(self, state: Any) -> None:
        sharding.fetched(state)

    def _ignore(self, *_: Any) -> None: ...

    rescue = keep = write = note_best = finish = _ignore

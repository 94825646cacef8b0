"""Files of a training run: metrics.csv, checkpoints and policies."""

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
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.run import checkpoint

CONFIG, METRICS, POLICY, BEST = "config.json", "metrics.csv", "policy.safetensors", "best.safetensors"


class MetricsFile:
    """Writer of metrics to a CSV file, one flushed row for each update; it appends to an existing file."""

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
        """Writes a row; the names in the first row become the columns."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()


def whole_rows(path: Path) -> list[list[str]]:
    """Rows of a CSV file as text, the column names first; a last row that a crash cut off is dropped."""
    # A row that a crash cut off has no end of line.
    whole, _, _ = path.read_text().rpartition("\n")
    rows = list(csv.reader(whole.splitlines()))
    return [row for row in rows if len(row) == len(rows[0])]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Metrics of each update, read from a CSV file; a last row that a crash cut off is dropped."""
    rows = whole_rows(path)
    return [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]


def drop_later_rows(path: Path, steps: int) -> None:
    """Removes the rows after step `steps` from a metrics file, because a resumed training writes them again."""
    if not path.exists():
        return
    rows = whole_rows(path)
    kept = rows[:1] + [row for row in rows[1:] if row[0].isdecimal() and int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


class _Kept(NamedTuple):
    """The parts of a training state that a policy file holds, copied to the host."""

    params: Any
    statistics: Any
    steps: int


class Results(MetricsFile):
    """Writer of the metrics, checkpoints and policies of a training run."""

    def __init__(self, folder: Path, algorithm: Algorithm, metadata: Mapping[str, Any], score: str, best: float | None):
        self.folder, self.algorithm, self.metadata = folder, algorithm, metadata
        # An interrupted run may have saved a better policy after its last checkpoint, so the saved score counts too.
        saved = _saved_score(folder / BEST, score) if (folder / BEST).exists() else None
        self.score, self.best = score, max((value for value in (best, saved) if value is not None), default=None)
        options = json.loads((folder / CONFIG).read_text())
        self._normalized = options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        super().__init__(folder / METRICS)

    def keep(self, state: Any) -> None:
        """Copies the policy to the host for `finish`, if the next step donates the buffers of this state."""
        if self.algorithm.in_place:
            self._last = self._copy(state)

    def note_best(self, row: Mapping[str, float], before: Any, state: Any) -> None:
        """Copies the policy to the host if its score is the best so far; a score without new episodes is no new one."""
        reached = row[self.score] if row.get("episodes", 1.0) else math.nan
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(before if self.algorithm.on_policy else state)

    def rescue(self, state: Any) -> None:
        """Writes a checkpoint of the state before an interrupted update, unless the update has donated its buffers."""
        # Several processes have to gather the state together, and some of them may have ended.
        if self.algorithm.in_place or parallel.several():
            return
        # Suppress errors of this write, so that the error that interrupted the update is raised.
        with contextlib.suppress(Exception):
            # Keep an older checkpoint that holds the environments, because resuming from it is exact.
            if not ((self.folder / checkpoint.LATEST).exists() and self._environments() is not None):
                self.checkpoint(state, moved=True)

    def checkpoint(self, state: Any, moved: bool = False) -> None:
        """Writes a checkpoint and a new best policy; if `moved`, host environments are past this state and left out."""
        # Only the first process writes, and it could save only its own environments.
        environments = None if moved or parallel.several() else self._environments()
        extra = {"best": self.best, **({} if self.algorithm.runner is None else {"environments": environments})}
        checkpoint.save(self.folder, parallel.fetched(state), extra)
        self._save_best()

    def finish(self, state: Any) -> None:
        """Writes the policy of the last complete update, and a new best policy."""
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
        path, policy = self.folder / name, self.algorithm.policy
        files.save(path, policy, kept.params, normalizer=kept.statistics, metadata=metadata)


def _saved_score(path: Path, score: str) -> float | None:
    """Score in the metadata of a policy file, or None if it cannot be read."""
    try:
        found = container.read(path)[1]["metadata"][score]
    except (OSError, KeyError, TypeError, files.PolicyFileError):
        return None
    return found if isinstance(found, float) else None


class Follower(contextlib.nullcontext[None]):
    """Stand-in for Results in all processes but the first: it takes part in gathering arrays, but writes nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def checkpoint(self, state: Any) -> None:
        parallel.fetched(state)

    def _ignore(self, *_: Any) -> None: ...

    rescue = keep = write = note_best = finish = _ignore

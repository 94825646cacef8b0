"""Files of a training run: metrics, checkpoints and policies."""

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
    """A CSV file with one row for each update, flushed after each row; an existing file is continued."""

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
    """Rows of a CSV file as text, the names of the columns first; an incomplete row is left out."""
    # An incomplete row has no end of line.
    whole, _, _ = path.read_text().rpartition("\n")
    rows = list(csv.reader(whole.splitlines()))
    return [row for row in rows if len(row) == len(rows[0])]


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Metrics of each update in a CSV file, without an incomplete row."""
    rows = whole_rows(path)
    return [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]


def drop_later_rows(path: Path, steps: int) -> None:
    """Drops the rows after a step, because a resumed training writes them again."""
    if not path.exists():
        return
    rows = whole_rows(path)
    kept = rows[:1] + [row for row in rows[1:] if row[0].isdecimal() and int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


class _Kept(NamedTuple):
    """Copy on the host of the parts of a state that a policy file holds."""

    params: Any
    statistics: Any
    steps: int


class Results(MetricsFile):
    """Writer of the metrics, checkpoints and policies of a run."""

    def __init__(self, folder: Path, algorithm: Algorithm, metadata: Mapping[str, Any], score: str, best: float | None):
        self.folder, self.algorithm, self.metadata = folder, algorithm, metadata
        # An interrupted run may have written a better policy after its last checkpoint.
        saved = _saved_score(folder / BEST, score) if (folder / BEST).exists() else None
        self.score, self.best = score, max((value for value in (best, saved) if value is not None), default=None)
        options = json.loads((folder / CONFIG).read_text())
        self._normalized = options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        super().__init__(folder / METRICS)

    def keep(self, state: Any) -> None:
        """Copies the policy for `finish` if the algorithm donates its state to the next step."""
        if self.algorithm.in_place:
            self._last = self._copy(state)

    def note_best(self, row: Mapping[str, float], before: Any, state: Any) -> None:
        """Copies the policy if its score is the best so far."""
        reached = row[self.score]
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(before if self.algorithm.on_policy else state)

    def rescue(self, state: Any) -> None:
        """Writes the state before an interrupted update, unless the algorithm has donated it."""
        # Several processes have to write the state together, and some of them may have ended.
        if self.algorithm.in_place or processes.several():
            return
        # Suppress errors here so that the original one is raised.
        with contextlib.suppress(Exception):
            # Keep an older checkpoint that holds the environments, because resuming from it is exact.
            if not ((self.folder / checkpoint.LATEST).exists() and self._environments() is not None):
                self.checkpoint(state, moved=True)

    def checkpoint(self, state: Any, moved: bool = False) -> None:
        """Writes the state for `restore`, and a new best policy; `moved` leaves out the host environments."""
        # Each of several processes could save only its own environments.
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
        path, policy = self.folder / name, self.algorithm.policy
        files.save(path, policy, kept.params, normalizer=kept.statistics, metadata=metadata)


def _saved_score(path: Path, score: str) -> float | None:
    """Score in the metadata of a policy file, or None."""
    try:
        found = container.read(path)[1]["metadata"][score]
    except (OSError, KeyError, TypeError, files.PolicyFileError):
        return None
    return found if isinstance(found, float) else None


class Follower(contextlib.nullcontext[None]):
    """Replacement of Results in all processes but the first: it communicates and writes nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def checkpoint(self, state: Any) -> None:
        sharding.fetched(state)

    def _ignore(self, *_: Any) -> None: ...

    rescue = keep = write = note_best = finish = _ignore

"""Files of a training run: metrics.csv, checkpoints and policies."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax import files
from gaussjax.core import atomic_file
from gaussjax.envs.snapshot import UnsavableError
from gaussjax.files import container
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.run import checkpoint

CONFIG, METRICS, POLICY, BEST = "config.json", "metrics.csv", "policy.safetensors", "best.safetensors"
CURVE, INITIAL = "learning_curve.png", "initial.safetensors"
# Far above the metrics of a long training.
_MOST_BYTES = 2**30
_STEP = re.compile(r"[0-9]{1,10}")


class MetricsFile:
    """Writer of metrics to a CSV file, one flushed row for each update; it appends to an existing file."""

    def __init__(self, path: Path):
        self._path = path
        self._stack = contextlib.ExitStack()
        self._writer: csv.DictWriter[str] | None = None

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, row: Mapping[str, float]) -> None:
        """Writes a row; its names become columns, with NaN in the earlier rows of the file."""
        if self._writer is None:
            earlier = _rows(self._path)[0] if self._path.exists() else []
            names = earlier[0] if earlier else []
            columns = [*row, *(name for name in names if name not in row)]
            if names != columns:
                _write_rows(self._path, columns, [dict(zip(names, values, strict=True)) for values in earlier[1:]])
            # A link could lead out of the folder.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            self._file = self._stack.enter_context(os.fdopen(descriptor, "a", newline=""))
            self._writer = csv.DictWriter(self._file, columns, restval="nan")
        self._writer.writerow(row)
        self._file.flush()

    def sync(self) -> None:
        """Waits until the rows are on the disk, so that a power cut does not lose them."""
        if self._writer is not None:
            os.fsync(self._file.fileno())


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Metrics of each update, read from a CSV file; lines that are no rows of metrics are left out."""
    rows, _ = _rows(path)
    return [dict(zip(rows[0], map(float, row), strict=True)) for row in rows[1:]]


def drop_later_rows(path: Path, steps: int) -> str:
    """Removes the rows after step `steps` from a metrics file, because a resumed training writes them again.

    A damaged file is kept under another name, and the rows that can be read stay.

    Returns:
        A sentence for the user about a damaged file, or an empty text.
    """
    if not os.path.lexists(path):
        return ""
    try:
        rows, others = _rows(path)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror}): it is kept as {set_aside(path)}."
    if others and not rows:
        return f"{path.name} has no names of metrics in its first line: it is kept as {set_aside(path)}."
    notice = ""
    if others:
        # The file keeps its name until the good rows replace it.
        kept = set_aside(path, atomic_file.link)
        notice = (
            f"{path.name} has lines that are no rows of metrics in order ({others:,}): it is kept as {kept}, and the "
            f"other rows stay."
        )
    if rows:
        _write_rows(path, rows[0], [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if int(row[0]) <= steps])
    return notice


def set_aside(path: Path, move: Callable[[Path, Path], Any] = os.rename) -> str:
    """Gives a damaged file another name, and returns the name."""
    names = (path.with_name(f"{path.name}.damaged{number}") for number in itertools.chain([""], itertools.count(2)))
    other = next(name for name in names if not os.path.lexists(name))
    move(path, other)
    return other.name


def clear_names(folder: Path) -> list[str]:
    """Gives folders, pipes and devices under the names of a run's files other names; returns sentences about them.

    Temporary files of killed processes are removed.
    """
    paths = [folder / name for name in (CONFIG, POLICY, BEST, CURVE, checkpoint.LATEST, checkpoint.PREVIOUS)]
    for path in (*paths, folder / METRICS):
        atomic_file.remove_stale(path)
    strange = [path for path in paths if path.exists() and not path.is_file()]
    return [f"{path.name} is not a regular file: it is kept as {set_aside(path)}." for path in strange]


def read_regular(path: Path, most: int = _MOST_BYTES) -> bytes:
    """Content of a regular file; raises OSError for a folder, a pipe, a device or more than `most` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        raise OSError(errno.EINVAL, f"expected a regular file of at most {most:,} bytes", str(path))
    return path.read_bytes()


def _rows(path: Path) -> tuple[list[list[str]], int]:
    """Rows of a metrics file as text, the column names first, and the number of lines that are no rows in order.

    A last line without an end is neither, because a crash cuts it off.
    """
    lines = read_regular(path).decode("utf-8", "replace").split("\n")[:-1]
    columns, *others = map(_fields, lines or [""])
    if columns[:1] != ["step"] or len({*columns}) < len(columns) or not all(name.isprintable() for name in columns):
        return [], len(lines)
    rows, last = [columns], -1
    for row in others:
        if len(row) == len(columns) and all(map(_is_number, row)) and _STEP.fullmatch(row[0]) and int(row[0]) > last:
            rows.append(row)
            last = int(row[0])
    return rows, len(lines) - len(rows)


def _fields(line: str) -> list[str]:
    """The fields of a line, none if it is no line of a CSV file."""
    try:
        return next(csv.reader([line.rstrip("\r")]), [])
    except csv.Error:
        return []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="nan")
    writer.writeheader()
    writer.writerows(rows)
    atomic_file.write(path, text.getvalue().encode())


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
        kept = saved(folder / BEST, score) if (folder / BEST).exists() else None
        scores = [value for value in (best, kept) if isinstance(value, float) and math.isfinite(value)]
        self.score, self.best = score, max(scores, default=None)
        self._options = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        self._normalized = self._options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None
        super().__init__(folder / METRICS)

    def keep(self, state: Any) -> None:
        """Copies the policy to the host for `finish`, if the next step donates the buffers of this state."""
        if self.algorithm.in_place:
            self._last = self._copy(state)

    def note_best(self, row: Mapping[str, float], before: Any, state: Any) -> None:
        """Copies the policy to the host if its score is the best so far; a score without new episodes is no new one."""
        played = self.score == "episode_return"
        reached = row[self.score] if row.get("episodes", 1.0) or not played else math.nan
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(before if played and self.algorithm.on_policy else state)

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
        extra = {"best": self.best, "options": self._options}
        if self.algorithm.runner is not None:
            extra["environments"] = environments
        # A crash leaves a best policy and rows that the checkpoint does not know, but never the reverse.
        self._save_best()
        self.sync()
        checkpoint.save(self.folder, parallel.fetched(state), extra)

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


def saved(path: Path, name: str) -> Any:
    """An entry in the metadata of a policy file, or None if it cannot be read."""
    try:
        return container.read(path)[1]["metadata"][name]
    except (OSError, KeyError, TypeError, files.PolicyFileError):
        return None


class Follower(contextlib.nullcontext[None]):
    """Stand-in for Results in all processes but the first: it takes part in gathering arrays, but writes nothing."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def checkpoint(self, state: Any) -> None:
        parallel.fetched(state)

    def _ignore(self, *_: Any) -> None: ...

    rescue = keep = write = note_best = finish = _ignore

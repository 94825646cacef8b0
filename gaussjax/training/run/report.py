"""Metrics of a training as a CSV file, and its learning curve as a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path


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


def read(path: Path) -> list[dict[str, float]]:
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
        >>> read(path)
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


def learning_curve(
    rows: Sequence[Mapping[str, float]],
    path: Path,
    title: str,
    *,
    score: str = "episode_return",
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended"),
) -> None:
    """Draws a metric over the steps as a PNG file.

    Args:
        rows: Metrics of each update, with `step` and the score; a row with NaN is left out.
        path: Path of the PNG file.
        title: Title above the picture.
        score: Name of the metric.
        labels: Labels of the two axes.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "learning_curve.png"
        >>> learning_curve([{"step": 64, "episode_return": -1200.0}], path, "PPO on Pendulum-v1")
        >>> path.exists()
        True
    """
    # The object interface of matplotlib: no window system, no global state.
    from matplotlib.figure import Figure

    points = [(row["step"], row[score]) for row in rows if math.isfinite(row[score])]
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    if points:
        steps, scores = zip(*points, strict=True)
        axes.plot(steps, scores, marker=".", markersize=4, linewidth=1.5)
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)

"""Learning curve of a training, drawn as a PNG picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from gaussjax.core import atomic_file
from gaussjax.core.text import printable


def draw(
    rows: Sequence[Mapping[str, float]],
    path: Path,
    title: str,
    *,
    score: str = "episode_return",
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended"),
) -> None:
    """Draws a metric over the training steps and writes the picture as a PNG file.

    Args:
        rows: Metrics of each update, with `step` and the score; rows without a finite score are left out.
        path: Path of the PNG file.
        title: Title above the picture.
        score: Name of the metric.
        labels: Labels of the horizontal and the vertical axis.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "learning_curve.png"
        >>> draw([{"step": 64, "episode_return": -1200.0}], path, "PPO on Pendulum-v1")
        >>> path.exists()
        True
    """
    # Unlike pyplot, matplotlib's object interface needs no window system and has no global state.
    from matplotlib.figure import Figure

    points = [(row["step"], row[score]) for row in rows if math.isfinite(row.get(score, math.nan))]
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    if points:
        steps, scores = zip(*points, strict=True)
        axes.plot(steps, scores, marker=".", markersize=4, linewidth=1.5)
    axes.set_title(printable(title), parse_math=False)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    atomic_file.write(path, picture.getvalue())

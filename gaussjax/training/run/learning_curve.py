"""Learning curve of a training, drawn as a PNG picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gaussjax.core import atomic_file
from gaussjax.core.text import printable

_LABELS = {
    "episode_return": "episodes of the update",
    "recent_return": "latest 100 episodes",
    "evaluation_return": "evaluation, deterministic actions",
}


def draw(
    rows: Sequence[Mapping[str, float]],
    path: Path,
    title: str,
    *,
    score: str = "episode_return",
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended"),
) -> None:
    """Draws a metric over the training steps and writes the picture as a PNG file.

    Returns of training episodes are drawn at the updates in which episodes ended. The picture of `episode_return` also
    has the mean of the latest 100 episodes, and the picture of `evaluation_return` has the training episodes.

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

    names = {"episode_return": ["recent_return"], "evaluation_return": ["episode_return"]}.get(score, [])
    first, *others = ({row["step"]: row[name] for row in rows if _has(row, name)} for name in (score, *names))
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    lines = [(score, first), *((name, points) for name, points in zip(names, others, strict=True) if points != first)]
    # The mean of fewer episodes varies more, so it is drawn paler and below the other.
    pale = "episode_return" if len(lines) > 1 else ""
    for name, points in lines:
        style: dict[str, Any] = {"linewidth": 1.0, "alpha": 0.4, "zorder": 1} if name == pale else {"linewidth": 1.5}
        if points:
            axes.plot([*points], [*points.values()], marker=".", markersize=4, label=_LABELS.get(name, name), **style)
    if len(lines) > 1:
        axes.legend(frameon=False)
    axes.set_title(printable(title), parse_math=False)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    atomic_file.write(path, picture.getvalue())


def _has(row: Mapping[str, float], name: str) -> bool:
    """True if a row of metrics has a new value of a metric; means of episodes stay in rows in which none ended."""
    carried = name in ("episode_return", "recent_return") and row.get("episodes", 1.0) == 0
    return math.isfinite(row.get(name, math.nan)) and not carried

"""A bar that shows how far a training is, and below it how it learns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

# What is shown of each row where it is there: the metric, how it is called, how many digits.
_SHOWN = (
    ("kl", "KL", ".4f"),
    ("log_prob", "log-likelihood", ".3f"),
    ("mean_error", "error", ".3f"),
    ("entropy", "entropy", ".2f"),
    ("std", "std", ".3f"),
    ("temperature", "temperature", ".3g"),
    ("explained_variance", "explained variance", ".2f"),
)
# A policy most of whose actions lie at a bound hardly learns from its samples any more.
MUCH_SATURATION = 0.5


def details(row: Mapping[str, float]) -> Text:
    """How the policy learns, in a line; what is amiss is in yellow.

    Example:
        >>> details({"kl": 0.01234, "std": 0.5, "saturation": 0.75}).plain
        'KL 0.0123 · std 0.500 · 75% of actions at a bound'
    """
    parts = [Text(f"{name} {row[key]:{form}}") for key, name, form in _SHOWN if math.isfinite(row.get(key, math.nan))]
    if row.get("saturation", 0.0) >= MUCH_SATURATION:
        parts.append(Text(f"{row['saturation']:.0%} of actions at a bound", "yellow"))
    for key, name in (("skipped", "gradients skipped"), ("refused", "transitions left out")):
        if row.get(key):
            parts.append(Text(f"{row[key]:.0f} {name}", "yellow"))
    return Text(" · ").join(parts)


class _Bar(Progress):
    """A bar with a line below."""

    line = Text()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.line:
            yield self.line


@contextlib.contextmanager
def shown(total_steps: int, first: int = 0, unit: str = "steps") -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that takes the metrics of each update and moves the bar.

    Args:
        total_steps: Environment steps, or epochs, of the whole training.
        first: Step at which it begins.
        unit: What the steps are called.
    """
    bar = _Bar(
        TextColumn("{task.fields[shown]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    latest = math.nan
    with bar:
        task = bar.add_task("train", total=total_steps, completed=first, shown="compiling")

        def show(row: Mapping[str, float]) -> None:
            nonlocal latest
            mean = row.get("episode_return", math.nan)
            latest = mean if math.isfinite(mean) else latest
            reached = f"return {latest:9.1f}" if "episode_return" in row else ""
            rate = f"  {row['steps_per_second']:8,.0f} steps/s" if "steps_per_second" in row else ""
            bar.line = details(row)
            bar.update(task, completed=min(row["step"], total_steps), shown=f"{reached}{rate}".strip())

        yield show

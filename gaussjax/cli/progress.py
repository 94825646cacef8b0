"""The progress bar of a training, with the latest metrics below it."""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from gaussjax.training import parallel

# Metric, label and number format of each value shown under the progress bar.
_DETAILS = (
    ("kl", "KL", ".4f"),
    ("log_prob", "log-likelihood", ".3f"),
    ("mean_error", "error", ".3f"),
    ("entropy", "entropy", ".2f"),
    ("std", "std", ".3f"),
    ("temperature", "temperature", ".3g"),
    ("explained_variance", "explained variance", ".2f"),
)
# A warning is shown if at least this fraction of actions is at a bound, since the policy then hardly learns.
_HIGH_SATURATION = 0.5


def print_line(text: str) -> None:
    """Prints a line without colours; of several processes only the first one prints."""
    if parallel.leads():
        Console().print(text, highlight=False, markup=False, soft_wrap=True)


def leave_terminal() -> None:
    """Drops later output to a terminal that was closed, where printing would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        # A stream in memory has no descriptor. A closed terminal is a device, but no longer a terminal by `isatty`.
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def details(row: Mapping[str, float]) -> Text:
    """Metrics of an update as one line of text, with warnings in yellow.

    Example:
        >>> details({"kl": 0.01234, "std": 0.5, "saturation": 0.75}).plain
        'KL 0.0123 · std 0.500 · 75% of actions at a bound'
    """
    parts = [Text(f"{name} {row[key]:{form}}") for key, name, form in _DETAILS if math.isfinite(row.get(key, math.nan))]
    if row.get("saturation", 0.0) >= _HIGH_SATURATION:
        parts.append(Text(f"{row['saturation']:.0%} of actions at a bound", "yellow"))
    for key, name in (("skipped", "gradients skipped"), ("refused", "transitions left out")):
        if row.get(key):
            parts.append(Text(f"{row[key]:.0f} {name}", "yellow"))
    return Text(" · ").join(parts)


class _Bar(Progress):
    """A progress bar with a line of text below it."""

    line = Text()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.line:
            yield self.line


@contextlib.contextmanager
def bar(total_steps: int, first: int = 0, unit: str = "steps") -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Shows a progress bar from step `first` to `total_steps`; yields a function that takes metrics and moves it."""
    columns = TextColumn("{task.fields[latest]}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)
    mean_return = math.nan
    with _Bar(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("train", total=total_steps, completed=first, latest="compiling")

        def move(row: Mapping[str, float]) -> None:
            nonlocal mean_return
            if math.isfinite(row.get("episode_return", math.nan)):
                mean_return = row["episode_return"]
            reached = f"return {mean_return:9.1f}" if "episode_return" in row else ""
            rate = f"  {row['steps_per_second']:8,.0f} steps/s" if "steps_per_second" in row else ""
            progress.line = details(row)
            progress.update(task, completed=min(row["step"], total_steps), latest=f"{reached}{rate}".strip())

        yield move

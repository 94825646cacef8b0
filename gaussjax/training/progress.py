"""A bar that shows how far a training is."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def shown(total_steps: int, first: int = 0) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that takes the metrics of each update and moves the bar.

    Args:
        total_steps: Environment steps of the whole training.
        first: Step at which it begins.
    """
    bar = Progress(
        TextColumn("{task.fields[shown]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    latest = math.nan
    with bar:
        task = bar.add_task("train", total=total_steps, completed=first, shown="compiling")

        def show(row: Mapping[str, float]) -> None:
            nonlocal latest
            latest = row["episode_return"] if math.isfinite(row["episode_return"]) else latest
            rate = f"  {row['steps_per_second']:8,.0f} steps/s" if "steps_per_second" in row else ""
            skipped = f"  {row['skipped']:.0f} gradients skipped" if row.get("skipped") else ""
            text = f"return {latest:9.1f}{rate}{skipped}"
            bar.update(task, completed=min(row["step"], total_steps), shown=text)

        yield show

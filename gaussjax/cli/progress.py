"""Signs of life on the terminal: the progress of a training with its latest metrics, and answers to Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from gaussjax import envs
from gaussjax.core.text import printable
from gaussjax.training import parallel
from gaussjax.training.run import POLICY, checkpoint

# Metric, label and number format of each value shown under the progress bar.
_DETAILS = (
    ("kl", "KL", ".4f"),
    ("log_prob", "log-likelihood", ".3f"),
    ("validation_log_prob", "of validation", ".3f"),
    ("mean_error", "error", ".3f"),
    ("validation_mean_error", "of validation", ".3f"),
    ("entropy", "entropy", ".2f"),
    ("std", "std", ".3f"),
    ("temperature", "temperature", ".3g"),
    ("explained_variance", "explained variance", ".2f"),
)
# A warning is shown if at least this fraction of actions is at a bound, since the policy then hardly learns.
_HIGH_SATURATION = 0.5
# Shortest time between two lines of progress without a terminal, in seconds.
_PAUSE = 5.0


def print_line(text: str) -> None:
    """Prints a line without colours; of several processes only the first one prints."""
    if parallel.leads():
        text = text if text.isprintable() else printable(text, keep="\n")
        Console().print(text, highlight=False, markup=False, soft_wrap=True)


def leave_terminal() -> None:
    """Drops later output to a terminal that was closed, where printing would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        # A stream in memory has no descriptor. A closed terminal is a device, but no longer a terminal by `isatty`.
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def details(row: Mapping[str, float], first: str = "") -> Text:
    """Metrics of an update as one line of text after the text `first`, with warnings in yellow.

    Example:
        >>> details({"kl": 0.01234, "std": 0.5, "saturation": 0.75}).plain
        'KL 0.0123 · std 0.500 · 75% of actions at a bound'
    """
    parts = [Text(first)] if first else []
    parts += [
        Text(f"{name} {row[key]:{form}}") for key, name, form in _DETAILS if math.isfinite(row.get(key, math.nan))
    ]
    if row.get("saturation", 0.0) >= _HIGH_SATURATION:
        parts.append(Text(f"{row['saturation']:.0%} of actions at a bound", "yellow"))
    for key, name in (("skipped", "gradients skipped"), ("refused", "transitions left out")):
        if row.get(key):
            parts.append(Text(f"{row[key]:.0f} {name}", "yellow"))
    return Text(" · ").join(parts)


class _Bar(Progress):
    """A progress bar with lines of text below it."""

    lines: tuple[Text, ...] = (Text("compiling the first update"),)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from filter(None, self.lines)


@contextlib.contextmanager
def bar(total_steps: int, first: int = 0, unit: str = "steps") -> Iterator[Callable[[Mapping[str, float]], None]]:
    """Shows progress from step `first` to `total_steps`; yields a function that takes the metrics of each update.

    A terminal has a progress bar. A file or a pipe gets a line every few seconds, and one at the end.
    """
    with _terminal(total_steps, first, unit) if Console().is_terminal else _lines(total_steps, first, unit) as show:
        evaluation = ""

        def move(row: Mapping[str, float]) -> None:
            nonlocal evaluation
            parts = []
            if math.isfinite(row.get("recent_return", math.nan)):
                parts.append(f"return {row['recent_return']:.1f} of {row['recent_episodes']:,.0f} episodes")
            if math.isfinite(row.get("evaluation_return", math.nan)):
                evaluation = f"evaluation {row['evaluation_return']:.1f}"
            if "steps_per_second" in row:
                parts.append(f"{row['steps_per_second']:,.0f} steps/s")
            show(min(int(row["step"]), total_steps), " · ".join(parts), details(row, evaluation))

        yield move


_Show = Callable[[int, str, Text], None]


@contextlib.contextmanager
def _terminal(total_steps: int, first: int, unit: str) -> Iterator[_Show]:
    count = TextColumn(f"{{task.completed:,}} of {{task.total:,}} {unit}")
    with _Bar(count, BarColumn(), TaskProgressColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("train", total=total_steps, completed=first)

        def show(step: int, latest: str, metrics: Text) -> None:
            progress.lines = Text(latest), metrics
            progress.update(task, completed=step)

        yield show


@contextlib.contextmanager
def _lines(total_steps: int, first: int, unit: str) -> Iterator[_Show]:
    started, ended = time.monotonic(), threading.Event()
    latest = f"{first:,} of {total_steps:,} {unit} · compiling the first update"

    def show(step: int, speed: str, metrics: Text) -> None:
        nonlocal latest
        left = (time.monotonic() - started) / max(step - first, 1) * (total_steps - step)
        parts = f"{step:,} of {total_steps:,} {unit}", speed, metrics.plain
        latest = " · ".join([*filter(None, parts), *([f"{left:,.0f} s left"] if step < total_steps else [])])

    def repeat() -> None:
        # An update may take minutes, so a thread prints. It ends with its reader, such as `head`.
        with contextlib.suppress(OSError):
            while not ended.wait(_PAUSE):
                print_line(f"{latest} · after {time.monotonic() - started:,.0f} s")

    print_line(latest)
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield show
    finally:
        ended.set()
        thread.join()
        print_line(latest)


@contextlib.contextmanager
def answer_interrupts(*answers: str) -> Iterator[None]:
    """Prints an answer to each Ctrl-C at once, until the block ends; later ones get the last answer.

    Python runs signal handlers only between its own instructions, and a compilation may take a minute. A thread reads
    the numbers of the signals from a pipe, to which Python writes them without this delay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)

    def listen() -> None:
        count = 0
        while number := os.read(receiving, 1):
            # In a training of several processes only the first one prints.
            if number[0] == signal.SIGINT and parallel.leads():
                # A terminal shows ^C, so the answer begins a new line.
                start = "\n" if sys.stderr.isatty() else ""
                print(f"{start}gaussjax: {answers[min(count, len(answers) - 1)]}", file=sys.stderr, flush=True)
                count += 1

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        os.close(sending)
        thread.join()
        os.close(receiving)


def typed(*words: str | Path) -> str:
    """The command with these words as this shell can take it, also while the program is not on its path."""
    program = "gaussjax"
    if Path(sys.argv[0]).name == program and not shutil.which(program):
        program = sys.argv[0]
    return shlex.join(map(str, (program, *words)))


def again(command: str, folder: Path, environment: str, *words: str) -> str:
    """A command for the folder of a training. It names an environment of a module, which no file may import."""
    module = ":" in environment and environment.partition(":")[0] not in envs.PACKAGES
    return typed(command, folder, *(("--environment", environment) if module else ()), *words)


def remains(folder: Path, environment: str) -> str:
    """Sentences about a training that was interrupted: its policy so far, and how to go on."""
    policy, onward = folder / POLICY, f"Go on with: {again('resume', folder, environment)}"
    if not policy.exists():
        return f"nothing was trained yet. {onward}"
    resumable = (folder / checkpoint.LATEST).exists()
    return f"the policy so far is {policy}. {onward if resumable else 'There is no checkpoint to go on from.'}"


@contextlib.contextmanager
def interruptible(folder: Path, environment: str) -> Iterator[None]:
    """Answers each Ctrl-C during a training; an interrupt that ends it says what remains."""
    answers = (
        "Interrupted: the running update, or its compilation, ends first; then all is saved. Press Ctrl-C again to "
        "drop the update.",
        "Interrupted again: the running update is dropped, and the last good state is saved. The last line says how to "
        "go on.",
    )
    with answer_interrupts(*answers):
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(remains(folder, environment)) from None

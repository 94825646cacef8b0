"""Sinks of metrics besides the CSV file: TensorBoard and Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from gaussjax.core import atomic_file

Write = Callable[[Mapping[str, float]], None]

# Python package that each sink needs. The extra of gaussjax with the sink's name installs it.
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
_RUN_ID = "wandb-run-id.txt"


class SinkError(RuntimeError):
    """A sink of metrics cannot be opened."""


def check(names: Collection[str]) -> None:
    """Imports the packages of sinks, so that a missing package is found before the training.

    Args:
        names: Names of sinks, keys of `PACKAGES`.

    Raises:
        ModuleNotFoundError: A package is missing; the message names the command that installs the package.

    Example:
        >>> check(["tensorboard"])
    """
    for name in names:
        try:
            importlib.import_module(PACKAGES[name])
        except ModuleNotFoundError as error:
            if error.name != PACKAGES[name]:
                raise
            raise ModuleNotFoundError(
                f"{name}: expected the package {PACKAGES[name]}, got none. pip install 'gaussjax[{name}]'",
                name=error.name,
            ) from None


@contextlib.contextmanager
def open_sinks(names: Collection[str], folder: Path, options: Mapping[str, Any], first: int = 0) -> Iterator[Write]:
    """Opens sinks of metrics for a training run; a resumed run continues its earlier records.

    Args:
        names: Names of sinks, keys of `PACKAGES`.
        folder: Folder of the run.
        options: Options of the run.
        first: Step at which the training begins; TensorBoard drops its records of later steps.

    Yields:
        A function that takes the metrics of an update, `step` among them, and writes the finite ones to every sink.

    Raises:
        SinkError: A sink cannot be opened.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with open_sinks(["tensorboard"], folder, {}) as write:
        ...     write({"step": 64, "episode_return": -1200.0})
        >>> [path.name for path in folder.iterdir()]
        ['tensorboard']
    """
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_SINKS[name](folder, options, first)) for name in names]

        def write(row: Mapping[str, float]) -> None:
            finite = {name: value for name, value in row.items() if name != "step" and math.isfinite(value)}
            for writer in writers:
                writer(int(row["step"]), finite)

        yield write


@contextlib.contextmanager
def _tensorboard(folder: Path, options: Mapping[str, Any], first: int) -> Iterator[Callable[..., None]]:
    import tensorboardX

    with tensorboardX.SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1 if first else None) as writer:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        yield write


@contextlib.contextmanager
def _wandb(folder: Path, options: Mapping[str, Any], first: int) -> Iterator[Callable[..., None]]:
    wandb = importlib.import_module("wandb")
    path = folder / _RUN_ID
    run_id = path.read_text().strip() if path.exists() else None
    options, place = dict(options), {"name": folder.name, "dir": str(folder)}
    try:
        run = wandb.init(project="gaussjax", **place, config=options, id=run_id, resume="allow")
    except wandb.errors.Error as error:
        raise SinkError(f"wandb: {error} To keep the run in its folder set WANDB_MODE=offline.") from error
    with run:
        atomic_file.write(path, f"{run.id}\n".encode())

        def write(step: int, metrics: Mapping[str, float]) -> None:
            run.log(dict(metrics), step=step)

        yield write


_SINKS = {"tensorboard": _tensorboard, "wandb": _wandb}

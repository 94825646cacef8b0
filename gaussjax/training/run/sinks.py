"""Where metrics go besides the CSV file: TensorBoard, and Weights & Biases."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

Write = Callable[[Mapping[str, float]], None]

# Which package each needs; the extra of gaussjax has the name of the sink.
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
_RUN_ID = "wandb-run-id.txt"


class SinkError(RuntimeError):
    """A sink that cannot be opened."""


def check(names: Collection[str]) -> None:
    """Loads the packages of sinks, so that a missing one is found before the training.

    Args:
        names: Of `PACKAGES`.

    Raises:
        ModuleNotFoundError: One is missing; how to install it is said.

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
def opened(names: Collection[str], folder: Path, described: Mapping[str, Any], first: int = 0) -> Iterator[Write]:
    """A function that takes the metrics of each update and writes them to all sinks named.

    Metrics that are not finite are left out. What is written goes into the folder of the run; a run
    that is resumed goes on where it was.

    Args:
        names: Of `PACKAGES`.
        folder: Of the run.
        described: Its options.
        first: Step at which the training begins; what TensorBoard has of later ones is dropped.

    Yields:
        `(metrics) -> None`; `step` is one of them.

    Raises:
        SinkError: One cannot be opened.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with opened(["tensorboard"], folder, {}) as write:
        ...     write({"step": 64, "episode_return": -1200.0})
        >>> [path.name for path in folder.iterdir()]
        ['tensorboard']
    """
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_SINKS[name](folder, described, first)) for name in names]

        def write(row: Mapping[str, float]) -> None:
            finite = {name: value for name, value in row.items() if name != "step" and math.isfinite(value)}
            for writer in writers:
                writer(int(row["step"]), finite)

        yield write


@contextlib.contextmanager
def _tensorboard(folder: Path, described: Mapping[str, Any], first: int) -> Iterator[Callable[..., None]]:
    import tensorboardX

    with tensorboardX.SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1 if first else None) as writer:

        def write(step: int, metrics: Mapping[str, float]) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            writer.flush()

        yield write


@contextlib.contextmanager
def _wandb(folder: Path, described: Mapping[str, Any], first: int) -> Iterator[Callable[..., None]]:
    wandb = importlib.import_module("wandb")
    kept = folder / _RUN_ID
    given = kept.read_text().strip() if kept.exists() else None
    options = {"project": "gaussjax", "name": folder.name, "dir": str(folder), "config": dict(described)}
    try:
        run = wandb.init(**options, id=given, resume="allow")
    except wandb.errors.Error as error:
        raise SinkError(f"wandb: {error} To keep the run in its folder set WANDB_MODE=offline.") from error
    with run:
        kept.write_text(f"{run.id}\n")

        def write(step: int, metrics: Mapping[str, float]) -> None:
            run.log(dict(metrics), step=step)

        yield write


_SINKS = {"tensorboard": _tensorboard, "wandb": _wandb}

"""A training run on disk: begun, stepped to its end, and going on where it was left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax.training.algorithm import Algorithm
from gaussjax.training.parallel import processes
from gaussjax.training.run import checkpoint, results
from gaussjax.training.run.interruption import Interruption
from gaussjax.training.run.results import CONFIG, METRICS, POLICY, drop_later_rows


class TrainingError(RuntimeError):
    """A training that cannot go on; what it had learnt is saved."""


class Resumed(NamedTuple):
    """Where a run goes on.

    Attributes:
        state: Of the algorithm.
        best: Best score of an update so far, or None.
        notices: What the user should know, such as an older checkpoint.
    """

    state: Any
    best: float | None
    notices: list[str]


def start(folder: Path, described: Mapping[str, Any]) -> None:
    """Makes the folder of a run and writes down its options."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(described, indent=2) + "\n")


def restore(folder: Path, algorithm: Algorithm, state: Any) -> Resumed:
    """Reads the checkpoint of a run and drops the metrics of what came after it.

    Args:
        folder: Of the run.
        algorithm: As it was for the run.
        state: From `algorithm.init`.

    Raises:
        FileNotFoundError: The run has no checkpoint.
        PolicyFileError: No checkpoint is whole, or it is one of other options.
    """
    restored = checkpoint.load(folder, state)
    notices = [restored.notice] if restored.notice else []
    state, extra = restored.state, restored.extra
    runner = algorithm.runner
    if runner is not None and extra.get("environments") is not None:
        runner.restore(extra["environments"])
    elif runner is not None:
        # The environments were reset by init; the memory and what was seen last belong to that.
        state = state._replace(environment=algorithm.init(state.key).environment)
        notices.append(
            "Where these environments stood is not saved: they start new episodes, so the training goes on "
            "but is not that of an uninterrupted run."
        )
    if processes.leads():
        drop_later_rows(folder / METRICS, int(state.steps))
    return Resumed(state, extra.get("best"), notices)


def train(
    folder: Path,
    algorithm: Algorithm,
    state: Any,
    described: Mapping[str, Any],
    *,
    total_steps: int,
    checkpoint_every: int,
    max_skipped: int,
    best: float | None = None,
    score: str = "episode_return",
    shown: Callable[[Mapping[str, float]], None] = lambda row: None,
) -> tuple[Any, bool]:
    """Steps an algorithm to the end, and leaves all results whatever happens on the way.

    Of several processes that train together each one calls it, and the first one writes.

    Args:
        folder: Made by `start`.
        algorithm: Of this package.
        state: From `algorithm.init` or `restore`.
        described: Metadata of the policy file.
        total_steps: `state.steps` at which it ends: environment steps, or epochs of cloning.
        checkpoint_every: Updates between two checkpoints, the second of which waits for one in which all was finite; 0
            writes none.
        max_skipped: Updates in a row with a loss, gradient or transition that is not finite, after which it ends.
        best: Best score so far, of a resumed run.
        score: The metric that is highest where the policy is best.
        shown: Called with the metrics of each update.

    Returns:
        The last state, and whether the user interrupted.

    Raises:
        TrainingError: Too many updates in a row were not finite. The last good state is saved.
    """
    run = results.opened(folder, algorithm, described, score, best, state)
    bad, updates, unsaved, stopped = 0, 0, 0, False
    with run, Interruption().watched() as interruption:
        try:
            while int(state.steps) < total_steps and not (stopped := interruption.agreed()):
                first, began = int(state.steps), time.perf_counter()
                following, row = algorithm.step(state)
                # The step is over once its numbers are here: until then the state is not one to keep.
                row = {name: _number(value) for name, value in jax.device_get(row).items()}
                before, state = state, following
                rate = (int(state.steps) - first) / (time.perf_counter() - began)
                stepped = {"steps_per_second": rate} if hasattr(state, "environment") else {}
                # The step is first in the file.
                row = {"step": int(state.steps), **stepped, **row}
                run.keep(state)
                run.write(row)
                shown(row)
                updates, unsaved = updates + 1, unsaved + 1
                bad = bad + 1 if row["skipped"] or row.get("refused", 0) else 0
                if bad >= max_skipped:
                    raise TrainingError(
                        f"update {updates}: expected finite losses, gradients and transitions, got NaN or infinity in "
                        f"{bad} updates in a row, the last at step {int(state.steps)}. They were skipped, so "
                        f"{folder / POLICY} holds the last good parameters. Lower the learning rate, or check the "
                        f"rewards and observations of the environment."
                    )
                if first >= algorithm.random_steps:
                    run.note(row, before, state)
                # Not amid trouble: what began it may be what is asked for.
                if checkpoint_every and unsaved >= checkpoint_every and not bad:
                    run.checkpoint(state)
                    unsaved = 0
        except BaseException as error:
            if checkpoint_every and unsaved and not isinstance(error, TrainingError):
                run.rescue(state)
            if not isinstance(error, KeyboardInterrupt):
                raise
            stopped = True
        else:
            if checkpoint_every and unsaved:
                run.checkpoint(state)
        finally:
            run.finish(state)
    return state, stopped


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else value.item()

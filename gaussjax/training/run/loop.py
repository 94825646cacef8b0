"""A training run in its folder: start, train to the end, restore."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gaussjax.training.algorithm import Algorithm
from gaussjax.training.parallel import processes
from gaussjax.training.run import checkpoint, results
from gaussjax.training.run.interruption import Interruption
from gaussjax.training.run.results import CONFIG, METRICS, POLICY


class TrainingError(RuntimeError):
    """A training that cannot continue; the last good state is saved."""


class Resumed(NamedTuple):
    """A run read from its folder.

    Attributes:
        state: State of the algorithm.
        best: Best score of an update so far, or None.
        notices: Messages for the user, such as the use of an older checkpoint.
    """

    state: Any
    best: float | None
    notices: list[str]


def start(folder: Path, options: Mapping[str, Any]) -> None:
    """Makes the folder of a run and writes its options."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(options, indent=2) + "\n")


def restore(folder: Path, algorithm: Algorithm, state: Any) -> Resumed:
    """Reads the checkpoint of a run and drops all later rows of its metrics.

    Args:
        folder: Folder of the run.
        algorithm: Algorithm with the options of the run.
        state: State from `algorithm.init`.

    Raises:
        FileNotFoundError: The run has no checkpoint.
        PolicyFileError: Every checkpoint is damaged, or was written with other options.
    """
    restored = checkpoint.load(folder, state)
    notices = [restored.notice] if restored.notice else []
    state, extra = restored.state, restored.extra
    runner = algorithm.runner
    if runner is not None and extra.get("environments") is not None:
        runner.restore(extra["environments"])
    elif runner is not None:
        # `init` has reset the environments: the carry and the latest observations have to be those of the reset.
        state = state._replace(environment=algorithm.init(state.key).environment)
        notices.append(
            "Where these environments stood is not saved: they start new episodes, so the training goes on "
            "but is not that of an uninterrupted run."
        )
    if processes.leads():
        results.drop_later_rows(folder / METRICS, int(state.steps))
    return Resumed(state, extra.get("best"), notices)


def train(
    folder: Path,
    algorithm: Algorithm,
    state: Any,
    metadata: Mapping[str, Any],
    *,
    total_steps: int,
    checkpoint_every: int,
    max_skipped: int,
    best: float | None = None,
    score: str = "episode_return",
    outputs: Sequence[Callable[[Mapping[str, float]], None]] = (),
) -> tuple[Any, bool]:
    """Steps an algorithm to the end, and leaves all results in the folder even after an error.

    If several processes train together, each one calls this function and the first one writes.

    Args:
        folder: Folder made by `start`.
        algorithm: Algorithm of this package.
        state: State from `algorithm.init` or `restore`.
        metadata: Metadata of the policy file.
        total_steps: Last value of `state.steps`: environment steps, or epochs of cloning.
        checkpoint_every: Updates between two checkpoints; 0 writes none. A checkpoint waits for an update in which all
            numbers were finite.
        max_skipped: Consecutive updates with a non-finite loss, gradient or transition after which the training ends.
        best: Best score so far of a resumed run.
        score: Metric that is highest for the best policy.
        outputs: Functions that take the metrics of each update.

    Returns:
        The last state, and whether the user interrupted.

    Raises:
        TrainingError: Too many consecutive updates were not finite. The last good state is saved.
    """
    files = results.open_results(folder, algorithm, metadata, score, best, state)
    bad, updates, unsaved, stopped = 0, 0, 0, False
    with files, Interruption().handle_signals() as interruption:
        try:
            while int(state.steps) < total_steps and not (stopped := interruption.requested_anywhere()):
                first, began = int(state.steps), time.perf_counter()
                following, metrics = algorithm.step(state)
                # The update is complete once its metrics have arrived; until then the new state is not kept.
                metrics = {name: np.asarray(value).item() for name, value in jax.device_get(metrics).items()}
                before, state = state, following
                rate = (int(state.steps) - first) / (time.perf_counter() - began)
                speed = {"steps_per_second": rate} if hasattr(state, "environment") else {}
                # The step is the first column of the file.
                row = {"step": int(state.steps), **speed, **metrics}
                files.keep(state)
                files.write(row)
                for output in outputs:
                    output(row)
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
                    files.note_best(row, before, state)
                # Do not checkpoint while updates are skipped: the last good state may be needed.
                if checkpoint_every and unsaved >= checkpoint_every and not bad:
                    files.checkpoint(state)
                    unsaved = 0
        except BaseException as error:
            if checkpoint_every and unsaved and not isinstance(error, TrainingError):
                files.rescue(state)
            if not isinstance(error, KeyboardInterrupt):
                raise
            stopped = True
        else:
            if checkpoint_every and unsaved:
                files.checkpoint(state)
        finally:
            files.finish(state)
    return state, stopped

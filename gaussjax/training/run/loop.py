"""Training runs in a folder: starting one, training to its end or to an interruption, and restoring one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm, without_empty_means
from gaussjax.training.run import checkpoint, output_files
from gaussjax.training.run.output_files import CONFIG, METRICS, POLICY


class TrainingError(RuntimeError):
    """A training cannot continue; the last good state is saved."""


class Resumed(NamedTuple):
    """State and best score of a restored run, and messages for the user, such as the use of an older checkpoint."""

    state: Any
    best: float | None
    notices: list[str]


def start(folder: Path, options: Mapping[str, Any]) -> None:
    """Makes the folder of a run and writes the options of the run."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(options, indent=2) + "\n")


def restore(folder: Path, algorithm: Algorithm, state: Any) -> Resumed:
    """Reads the checkpoint of a run, given a state from `algorithm.init`, and removes the metrics of later steps."""
    state, extra, notice = checkpoint.load(folder, state)
    notices, runner = [notice] if notice else [], algorithm.runner
    if runner is not None and extra.get("environments") is not None:
        runner.restore(extra["environments"])
    elif runner is not None:
        # The checkpoint has no environments, so `init` resets them and returns their first observations and the carry.
        state = state._replace(environment=algorithm.init(state.key).environment)
        notices.append(
            "The state of these environments is not saved: they start new episodes, so the training differs from an "
            "uninterrupted one."
        )
    if parallel.leads():
        output_files.drop_later_rows(folder / METRICS, int(state.steps))
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
    """Trains until `state.steps` reaches `total_steps`, and writes all results even after an error.

    `score` names the metric that is highest for the best policy; each of `outputs` is called with the metrics of each
    update. Returns the last state, and True if the user interrupted. Of several processes only the first one writes.
    """
    writer = output_files.Results if parallel.leads() else output_files.Follower
    files = writer(folder, algorithm, metadata, score, best)
    files.keep(state)
    bad, updates, unsaved, stopped = 0, 0, 0, False
    with files, Interruption().handle_signals() as interruption:
        try:
            while int(state.steps) < total_steps and not (stopped := interruption.requested_anywhere()):
                first, began = int(state.steps), time.perf_counter()
                following, metrics = algorithm.step(state)
                # The update runs asynchronously: keep the old state until the metrics of the update have arrived.
                metrics = {name: np.asarray(value).item() for name, value in jax.device_get(metrics).items()}
                before, state = state, following
                rate = (int(state.steps) - first) / (time.perf_counter() - began)
                speed = {"steps_per_second": rate} if hasattr(state, "environment") else {}
                # The step comes first, because `drop_later_rows` reads it from the first column of the file.
                row = without_empty_means({"step": int(state.steps), **speed, **metrics})
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


class Interruption:
    """The user's request to stop: a first signal lets the running update finish, a second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[Interruption]:
        """Handles Ctrl-C and SIGTERM until the block ends; outside the main thread it does nothing."""
        main = threading.current_thread() is threading.main_thread()
        names = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {name: signal.signal(name, self._handle) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def requested_anywhere(self) -> bool:
        """True if the user of any process asked to stop, so that all processes stop after the same update."""
        return parallel.any_of(self.requested)

    def _handle(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def resend_lost_interrupts() -> Iterator[None]:
    """Sends a Ctrl-C again if Python dropped it, until the block ends.

    Python drops exceptions that are raised in a finaliser or in a callback of the garbage collector. JAX has such a
    callback, so a single Ctrl-C can be lost.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # A timer sends the signal later: sent now, it would be raised in the same callback and dropped again.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before

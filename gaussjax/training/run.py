"""A training run on disk: metrics, checkpoints, the policy, and going on where it was left."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax import artifact
from gaussjax.environment_state import UnsavableError
from gaussjax.training import checkpoint, report
from gaussjax.training.algorithm import Algorithm

CONFIG, METRICS, POLICY, BEST = "config.json", "metrics.csv", "policy.safetensors", "best.safetensors"


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


class Interruption:
    """Whether the user wants to stop.

    The first Ctrl-C or SIGTERM lets the running update finish, so that what is saved can be
    resumed exactly; the second one stops at once and the update is dropped.
    """

    asked = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[Interruption]:
        """Takes the two signals until the block is left."""
        # Only the main thread may take signals.
        main = threading.current_thread() is threading.main_thread()
        names = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {name: signal.signal(name, self._take) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _take(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


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
            "The state of these environments cannot be saved: they start new episodes, so the training goes on "
            "but is not that of an uninterrupted run."
        )
    _drop_later_rows(folder / METRICS, int(state.steps))
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

    Args:
        folder: Made by `start`.
        algorithm: Of this package.
        state: From `algorithm.init` or `restore`.
        described: Metadata of the policy file.
        total_steps: `state.steps` at which it ends: environment steps, or epochs of cloning.
        checkpoint_every: Updates between two checkpoints; 0 writes none.
        max_skipped: Updates in a row with a loss, gradient or transition that is not finite, after which it ends.
        best: Best score so far, of a resumed run.
        score: The metric that is highest where the policy is best.
        shown: Called with the metrics of each update.

    Returns:
        The last state, and whether the user interrupted.

    Raises:
        TrainingError: Too many updates in a row were not finite. The last good state is saved.
    """
    run = _Run(folder, algorithm, described, score, best)
    bad, updates = 0, 0
    metrics = report.MetricsFile(folder / METRICS)
    with metrics, Interruption().watched() as interruption:
        try:
            while int(state.steps) < total_steps and not interruption.asked:
                before, (state, row) = state, algorithm.step(state)
                run.keep(before, state)
                # Rows from a compiled program come in alphabetical order; the step is first in the file.
                row = {"step": int(state.steps), **{name: _number(value) for name, value in row.items()}}
                metrics.write(row)
                shown(row)
                updates += 1
                bad = bad + 1 if row["skipped"] or row.get("refused", 0) else 0
                if bad >= max_skipped:
                    raise TrainingError(
                        f"update {updates}: expected finite losses, gradients and transitions, got NaN or infinity in "
                        f"{bad} updates in a row, the last at step {int(state.steps)}. They were skipped, so "
                        f"{folder / POLICY} holds the last good parameters. Lower the learning rate, or check the "
                        f"rewards and observations of the environment."
                    )
                run.note(row, state)
                if checkpoint_every and not bad and updates % checkpoint_every == 0:
                    run.checkpoint(state)
        except KeyboardInterrupt:
            interruption.asked = True
        else:
            if checkpoint_every and not bad and updates % checkpoint_every:
                run.checkpoint(state)
        finally:
            run.finish(state)
    return state, interruption.asked


class _Kept(NamedTuple):
    """What a policy file needs of a state, on the host."""

    params: Any
    statistics: Any
    steps: int


class _Run:
    """What a run writes besides its metrics."""

    def __init__(
        self, folder: Path, algorithm: Algorithm, described: Mapping[str, Any], score: str, best: float | None
    ):
        self.folder, self.algorithm, self.described = folder, algorithm, described
        self.score, self.best = score, best
        options = json.loads((folder / CONFIG).read_text())
        self._normalized = options.get("normalize_observations", False)
        self._best: _Kept | None = None
        self._last: _Kept | None = None

    def keep(self, before: Any, state: Any) -> None:
        """Copies what the next step would take away, for algorithms that change their state in place."""
        if self._last is not None or _is_gone(before):
            self._last = self._copy(state)

    def note(self, row: Mapping[str, float], state: Any) -> None:
        """Remembers the best update so far."""
        reached = row[self.score]
        if math.isfinite(reached) and (self.best is None or reached > self.best):
            self.best, self._best = reached, self._copy(state)

    def checkpoint(self, state: Any) -> None:
        """Writes all that the next step needs, and the best policy if it is a new one."""
        extra: dict[str, Any] = {"best": self.best}
        runner = self.algorithm.runner
        if runner is not None:
            try:
                extra["environments"] = runner.capture()
            except UnsavableError:
                extra["environments"] = None
        checkpoint.save(self.folder, state, extra)
        self._save_best()

    def finish(self, state: Any) -> None:
        """Writes the policy of the last whole update, and the best one."""
        kept = self._last if self._last is not None and _is_gone(state) else self._copy(state)
        self._save(POLICY, kept)
        self._save_best()

    def _copy(self, state: Any) -> _Kept:
        statistics = state.observation_statistics if self._normalized else None
        params, statistics = jax.device_get((state.params, statistics))
        return _Kept(params, statistics, int(state.steps))

    def _save_best(self) -> None:
        if self._best is not None:
            self._save(BEST, self._best, {self.score: self.best})
            self._best = None

    def _save(self, name: str, kept: _Kept, more: Mapping[str, Any] | None = None) -> None:
        metadata = {**self.described, **(more or {}), "steps": kept.steps}
        policy, statistics = self.algorithm.policy, kept.statistics
        artifact.save(self.folder / name, policy, kept.params, normalizer=statistics, metadata=metadata)


def _is_gone(state: Any) -> bool:
    """Whether a step has taken the arrays of a state to write its results there."""
    leaves = jax.tree.leaves((state.params, state.observation_statistics))
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) else value.item()


def _drop_later_rows(path: Path, steps: int) -> None:
    """Keeps the metrics up to a step; what follows is measured again."""
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) <= steps]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)

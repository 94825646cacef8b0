"""Training runs in a folder: holding the folder, training to the end or to an interruption, and restoring a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from gaussjax.core import atomic_file
from gaussjax.envs.guard import EnvironmentStepError, guarded
from gaussjax.training import parallel
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.metrics import without_empty_means
from gaussjax.training.run import checkpoint, output_files
from gaussjax.training.run.output_files import CONFIG, METRICS, POLICY

LOCK = ".lock"
# Text in the lock. Other text may come from anyone, and is not printed.
_HOLDER = re.compile(r"process \d{1,10} on [\w.-]{1,255} since [\d-]{10} [\d:]{8} UTC")
_held: set[int] = set()


class HeldError(RuntimeError):
    """Another process works in the folder of a run."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[str]:
    """Makes the folder if there is none, and this process its owner until the block ends.

    Yields:
        An empty text; or a sentence for the user if the file system has no locks, so that nothing holds the folder.

    Raises:
        HeldError: Another process is the owner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, notice = _acquire(folder / LOCK, os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    try:
        host = re.sub(r"[^\w.-]", "-", platform.node()) or "localhost"
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {host} since {since}\n".encode(), 0)
        yield notice
    finally:
        # A forked process that leaves the block is not the owner.
        if descriptor in _held:
            _held.remove(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(folder / LOCK)
            os.close(descriptor)


def refuse_held(folder: Path) -> None:
    """Raises HeldError if another process is the owner of the folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.close(_acquire(folder / LOCK, os.O_RDONLY)[0])


def _acquire(path: Path, flags: int) -> tuple[int, str]:
    """Locks a file without waiting; returns its descriptor, and a sentence if the file system has no locks."""
    while True:
        descriptor, notice = _open(path, flags), ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _HOLDER.match(os.pread(descriptor, 512, 0).decode("utf-8", "replace"))
            os.close(descriptor)
            raise HeldError(
                f"{path.parent} is in use by {found[0] if found else 'another process'}. Wait for its end, or stop it."
            ) from None
        except OSError as error:
            notice = f"{path.parent}: its file system has no locks ({error.strerror}). Start no second training in it."
        # The owner before may have removed this file after it was opened.
        with contextlib.suppress(OSError):
            if notice or os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor, notice
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    """Opens a regular file; it does not follow a link out of the folder, nor wait at a pipe."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise HeldError(f"{path}: expected the file of a lock, got a link, a folder or a device. Remove it.")


def _forget() -> None:
    """Closes the locks in a forked process, which would otherwise keep them after the end of the owner."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


class TrainingError(RuntimeError):
    """A training cannot continue; the last good state is saved."""


class Resumed(NamedTuple):
    """State and best score of a restored run, and messages for the user, such as the use of an older checkpoint."""

    state: Any
    best: float | None
    notices: list[str]


def start(folder: Path, options: Mapping[str, Any]) -> None:
    """Writes the options of a run into its folder, which is made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_file.write(folder / CONFIG, (json.dumps(options, indent=2) + "\n").encode())


def read_options(folder: Path) -> tuple[dict[str, Any], str]:
    """Options of a run, from its checkpoint if the file of options is missing or damaged.

    Returns:
        The options, and a sentence for the user if they are from the checkpoint, else an empty text.

    Raises:
        OSError: The file of options cannot be read, and no checkpoint holds the options.
        ValueError: The file of options is damaged, and no checkpoint holds the options.
    """
    path = folder / CONFIG
    try:
        found = json.loads(output_files.read_regular(path, most=10**6))
        if not isinstance(found, dict):
            raise ValueError(f"expected a dict of options, got {type(found).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        options = checkpoint.options(folder)
        if options is None:
            raise
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        return options, f"{path} cannot be read ({reason}). The options are from the checkpoint."
    return found, ""


def restore(folder: Path, algorithm: Algorithm, state: Any) -> Resumed:
    """Reads the checkpoint of a run, given a state from `algorithm.init`, and removes the metrics of later steps.

    A training that was killed before its first checkpoint begins anew, with the given state.

    Raises:
        FileNotFoundError: The run has a trained policy and no checkpoint.
        PolicyFileError: The checkpoints are damaged, or do not fit the state.
    """
    notices = output_files.clear_names(folder) if parallel.leads() else []
    try:
        state, extra, notice = checkpoint.load(folder, state)
    except FileNotFoundError:
        if (folder / POLICY).exists() and output_files.saved(folder / POLICY, "steps") != 0:
            raise
        extra, notice = {}, f"{folder} has no checkpoint yet: the training begins anew."
    else:
        fault = _environments_fault(algorithm, extra.get("environments"))
        if fault:
            # `init` resets the environments and returns their first observations and the carry.
            fresh = algorithm.init(jax.random.fold_in(state.key, 0))
            state = state._replace(environment=fresh.environment)
            notices.append(f"{fault}: they start new episodes, so the training differs from an uninterrupted one.")
    notices += [notice]
    if parallel.leads():
        notices.append(output_files.drop_later_rows(folder / METRICS, int(state.steps)))
    return Resumed(state, extra.get("best"), [text for text in notices if text])


def _environments_fault(algorithm: Algorithm, saved: Any) -> str:
    """Restores the environments on the host; returns the reason if that is impossible, and otherwise an empty text."""
    runner = algorithm.runner
    if runner is None:
        return ""
    if saved is None:
        return "The state of these environments is not saved"
    try:
        with guarded(runner.environments, "restore", runner.timeout):
            runner.restore(saved)
    except EnvironmentStepError as error:
        cause = error.__cause__ or error
        reason = " ".join(f"{type(cause).__name__}: {cause}".split()).rstrip(".:")
        return f"The saved state does not fit these environments ({reason})"
    return ""


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
) -> tuple[Any, int]:
    """Trains until `state.steps` reaches `total_steps` or the algorithm is done, and writes all results.

    `score` names the metric that is highest for the best policy; each of `outputs` is called with the metrics of each
    update. Returns the last state, and the number of the signal that interrupted the training, or 0 at its end. In a
    training of several processes only the first one writes.
    """
    writer = output_files.Results if parallel.leads() else output_files.Follower
    files = writer(folder, algorithm, metadata, score, best)
    files.keep(state)
    bad, updates, unsaved, stopped = 0, 0, 0, 0
    with files, Interruption().handle_signals() as interruption:
        try:
            while int(state.steps) < total_steps and not algorithm.done(state):
                if stopped := interruption.requested_anywhere():
                    break
                first, began = int(state.steps), time.perf_counter()
                following, metrics = algorithm.step(state)
                # The update runs asynchronously: keep the old state until the metrics of the update have arrived.
                metrics = {name: np.asarray(value).item() for name, value in jax.device_get(metrics).items()}
                steps = int(following.steps)
                rate = (steps - first) / (time.perf_counter() - began)
                speed = {"steps_per_second": rate} if hasattr(state, "environment") else {}
                # The step comes first, because `drop_later_rows` reads it from the first column of the file.
                row = without_empty_means({"step": steps, **speed, **metrics})
                # A row comes before its state: after an interruption here, `drop_later_rows` removes it again.
                files.write(row)
                before, state = state, following
                files.keep(state)
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
            stopped = interruption.number or signal.SIGINT
        else:
            if checkpoint_every and unsaved:
                files.checkpoint(state)
        finally:
            files.finish(state)
    return state, stopped


class Interruption:
    """The user's request to stop: a first signal lets the running update finish, a second raises KeyboardInterrupt.

    A closed terminal may send SIGHUP twice. A second one is no second request, and it is ignored after the block too.
    """

    def __init__(self) -> None:
        self.number = 0

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[Interruption]:
        """Handles Ctrl-C, SIGTERM and SIGHUP until the block ends; outside the main thread it does nothing."""
        main = threading.current_thread() is threading.main_thread()
        # nohup ignores SIGHUP, so that the training goes on without its terminal.
        kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        names = (signal.SIGINT, signal.SIGTERM, *(() if kept else (signal.SIGHUP,))) if main else ()
        before = {name: signal.signal(name, self._handle) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                ended = name == self.number == signal.SIGHUP
                signal.signal(name, signal.SIG_IGN if ended else handler)

    def requested_anywhere(self) -> int:
        """Number of the signal if the user of any process asked to stop, else 0: all stop after the same update."""
        return (self.number or signal.SIGINT) if parallel.any_of(self.number > 0) else 0

    def _handle(self, number: int, _: object) -> None:
        if self.number and number != signal.SIGHUP:
            raise KeyboardInterrupt
        self.number = self.number or number


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

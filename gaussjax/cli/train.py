"""The commands train and resume."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax import data, envs, files, training
from gaussjax.cli import errors, options, progress
from gaussjax.cli.errors import UsageError, announce_environments, environment_errors, usage_errors
from gaussjax.cli.policy_file import evaluate, initial, refuse_import
from gaussjax.cli.progress import again, print_line
from gaussjax.envs.guard import closing
from gaussjax.training import bc, parallel, ppo, run, sac
from gaussjax.training.algorithm import CELLS, check_memory
from gaussjax.training.run import checkpoint, learning_curve, output_files, sinks
from gaussjax.training.run.loop import LOCK

# Steps for which an environment of the user is checked before a training.
_CHECKED_STEPS = 200


class _Curve(NamedTuple):
    """A learning curve: unit of the steps, metric that is highest for the best policy, axis labels, option of steps."""

    unit: str = "steps"
    score: str = "episode_return"
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended")
    total: str = "total_steps"


_CLONING = _Curve("epochs", "score", ("epochs", "log-likelihood of an action, nats per dimension"), "total_epochs")


def train(command: Any) -> None:
    """Trains and evaluates a policy, and writes the results to a new folder."""
    environment, algorithm, seed = command.environment, command.algorithm, command.seed
    folder = command.out or Path("runs") / f"{re.sub('[/:]', '-', environment)}-{algorithm}-seed{seed}"
    mesh = _connect(getattr(command, "distributed", None))
    used = f"out: {folder} exists. Name another folder with --out, or remove this one."
    if parallel.any_of(parallel.leads() and _is_used(folder)):
        with _owner_errors("out"):
            run.refuse_held(folder)
        raise UsageError(used)
    saved = {**options.to_dict(command), **_digest(command)}
    start = initial(command) if getattr(command, "initial_policy", None) else None
    with _loop(command, mesh, start) as loop, contextlib.ExitStack() as stack:
        with usage_errors(TypeError, ValueError):
            state = loop.init(jax.random.key(seed))
        if parallel.leads():
            try:
                _hold(folder, stack, "out")
                if _is_used(folder):
                    raise UsageError(used)
                run.start(folder, saved)
                if start is not None:
                    # `resume` needs this policy, whatever happens to the other file.
                    rest = {"normalizer": start.normalizer, "metadata": start.metadata}
                    files.save(folder / run.INITIAL, *start[:2], **rest)
            except OSError as error:
                raise UsageError(f"out: {folder} cannot be made ({error.strerror}). Name another folder.") from error
        print_line(f"Training {algorithm} on {environment}, seed {seed}, into {folder}")
        try:
            _run(folder, loop, state, command)
        except sinks.SinkError:
            # Nothing is trained yet. Once the folder is removed, the user can repeat the same command.
            shutil.rmtree(folder)
            raise


def resume(command: options.Resume) -> None:
    """Continues a training from its last checkpoint, with the options that it was started with."""
    folder = command.folder
    saved, started, damaged, defaults = _options(command)
    curve = _curve(started)
    if command.total_steps is not None:
        with usage_errors(ValueError):
            started = replace(started, config=replace(started.config, **{curve.total: command.total_steps}))
    mesh = _connect(command.distributed)
    with contextlib.ExitStack() as stack:
        if parallel.leads():
            _hold(folder, stack, "folder")
        loop = stack.enter_context(_loop(started, mesh, initial(started, folder)))
        with usage_errors(TypeError, ValueError):
            state = loop.init(jax.random.key(started.seed))
        try:
            resumed = run.restore(folder, loop, state)
        except FileNotFoundError as error:
            raise UsageError(str(error)) from error
        steps = int(resumed.state.steps)
        if command.total_steps is not None and command.total_steps < steps:
            raise UsageError(
                f"total_steps: expected at least the {steps:,} {curve.unit} that are done, got "
                f"{command.total_steps:,}. Choose a larger number."
            )
        written = {**options.to_dict(started), **saved, curve.total: getattr(started.config, curve.total)}
        if parallel.leads() and (damaged or written != saved):
            if damaged and (folder / run.CONFIG).is_file():
                damaged += f" The file is kept as {output_files.set_aside(folder / run.CONFIG)}."
            run.start(folder, written)
        for notice in filter(None, [damaged, defaults, *resumed.notices]):
            print_line(notice)
        print_line(f"Resuming {folder} at step {steps:,} of {written[curve.total]:,}")
        _run(folder, loop, resumed.state, started, resumed.best)


def _options(command: options.Resume) -> tuple[dict[str, Any], Any, str, str]:
    """Saved options of a run, its training command, and sentences about a damaged file and about missing options."""
    folder, path = command.folder, command.folder / run.CONFIG
    try:
        saved, damaged = run.read_options(folder)
    except OSError as error:
        raise UsageError(
            f"folder: {folder} is not a training folder ({error.strerror}: {run.CONFIG}). If its training was killed "
            f"before it began, repeat the command that started it."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"folder: {path} is not a file that train wrote ({error}).") from error
    known = checkpoint.options(folder) or {}
    remove = f"Correct it, or remove {path} to resume with the options in the checkpoint." if known else "Correct it."
    saved = {**known, **saved}
    for name in options.FIXED:
        if name in known and saved[name] != known[name]:
            was = f"{name}: expected {known[name]!r} as in the checkpoint, got {repr(saved[name])[:80]}"
            raise UsageError(f"folder: {path} is not the file of this run ({was}). {remove}")
    try:
        started = options.from_dict(saved)
    except (ValueError, TypeError, UsageError) as error:
        reason = str(error).rstrip(".")
        raise UsageError(f"folder: {path} is not a file that train wrote ({reason}). {remove}") from error
    if command.environment is None:
        refuse_import(started.environment, path)
    elif command.environment != started.environment:
        raise UsageError(f"environment: expected {started.environment}, as the run has it. Leave the option out.")
    if {**_digest(started), **saved} != {**saved, **_digest(started)}:
        raise UsageError(f"dataset: {started.dataset} has changed since the training began. Restore it, or train anew.")
    added = [f"{name} = {value!r}" for name, value in options.to_dict(started).items() if name not in saved]
    defaults = f"{path} lacks options, whose defaults are used: {', '.join(added)}." if added else ""
    return saved, started, damaged, defaults


def _is_used(folder: Path) -> bool:
    """False if the folder is new, or if a training was killed in it before its options were written."""
    if not folder.is_dir():
        return os.path.lexists(folder)
    names = {path.name for path in folder.iterdir()} - {LOCK}
    return any(not name.startswith(f".{run.CONFIG}.writer-") for name in names)


def _hold(folder: Path, stack: contextlib.ExitStack, option: str) -> None:
    """Makes this process the owner of a folder until the stack is closed."""
    with _owner_errors(option):
        notice = stack.enter_context(run.hold(folder))
    if notice:
        print_line(notice)


@contextlib.contextmanager
def _owner_errors(option: str) -> Iterator[None]:
    try:
        yield
    except run.HeldError as error:
        raise UsageError(f"{option}: {error}") from error


def _curve(command: Any) -> _Curve:
    curve, config = _CLONING if isinstance(command, options.TrainBC) else _Curve(), command.config
    if curve is _CLONING and config.with_loss(config.network in CELLS).loss == "mean_squared_error":
        curve = curve._replace(labels=("epochs", "minus the mean squared error of the actions"))
    if not command.evaluate_every:
        return curve
    return curve._replace(score="evaluation_return", labels=(curve.labels[0], "mean return of episodes"))


def _run(folder: Path, loop: Any, state: Any, command: Any, best: float | None = None) -> None:
    """Trains to the end with a progress bar, then evaluates the policy."""
    first, start, curve = int(state.steps), time.perf_counter(), _curve(command)
    total = getattr(command.config, curve.total)
    metadata = {name: getattr(command, name) for name in ("environment", "algorithm", "seed")}
    if chosen := options.named_values(command.environment_options):
        metadata["environment_options"] = chosen
    full = sum(leaf.nbytes for leaf in jax.tree.leaves(state.buffer)) if isinstance(state, sac.State) else 0
    if full >= 1e6 and command.checkpoint_every:
        print_line(f"A checkpoint holds the replay buffer as far as it is filled, {full / 1e6:,.0f} MB at most.")
    with contextlib.ExitStack() as stack:
        outputs = []
        if parallel.leads() and first < total:
            if names := _sinks(command):
                saved = json.loads((folder / run.CONFIG).read_text())
                outputs.append(stack.enter_context(sinks.open_sinks(names, folder, saved, first)))
            outputs.append(stack.enter_context(progress.bar(total, first, curve.unit)))
        stack.enter_context(progress.interruptible(folder, command.environment))
        try:
            state, interruption = run.train(
                folder,
                loop,
                state,
                metadata,
                total_steps=total,
                checkpoint_every=command.checkpoint_every,
                max_skipped=command.max_skipped,
                best=best,
                score=curve.score,
                outputs=outputs,
            )
        except errors.FAULTS:
            print_line(f"Stopped: {progress.remains(folder, command.environment)}")
            raise
        finally:
            if parallel.leads():
                _draw(folder, f"{command.algorithm} on {command.environment}, seed {command.seed}", curve)
        if interruption == signal.SIGHUP:
            progress.leave_terminal()
    print_line(f"{int(state.steps) - first:,} {curve.unit} in {time.perf_counter() - start:.1f} s of training")
    if isinstance(state, bc.State) and state.best and int(state.best.epoch):
        origin = f"epoch {int(state.best.epoch):,}, which has the best score on the validation episodes"
        early = f"No better score in {command.config.patience} epochs. " if loop.done(state) else ""
        print_line(f"{early}The policy is from {origin}: {float(state.best.score):.4g}")
    if interruption:
        print_line(f"Interrupted: {progress.remains(folder, command.environment)}")
        sys.exit(errors.HUNG_UP if interruption == signal.SIGHUP else errors.INTERRUPTED)
    if not parallel.leads():
        return
    # Only the first process evaluates; the others need not wait for it.
    jax.distributed.shutdown()
    episodes, seed = command.evaluation_episodes, command.seed + options.EVALUATION_SEED
    try:
        where = command.environment, command.environment_options
        evaluate(options.Evaluate(folder / run.POLICY, *where, episodes, seed, timeout=command.timeout))
    except KeyboardInterrupt:
        repeat = again("evaluate", folder, command.environment)
        raise KeyboardInterrupt(f"the training is complete. Repeat: {repeat}") from None
    names = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    print_line(f"{folder}: {', '.join(names)}")
    # JAX environments draw no pictures, and a name with a colon may be one.
    drawn = () if ":" in command.environment or command.backend == "jax" else ("--gif", "episode.gif")
    print_line(f"next: {again('evaluate', folder, command.environment, *drawn)}")


def _draw(folder: Path, title: str, curve: _Curve) -> None:
    try:
        rows = output_files.read_metrics(folder / run.METRICS)
        learning_curve.draw(rows, folder / output_files.CURVE, title, score=curve.score, labels=curve.labels)
    except OSError as error:
        # Do not raise here: the error that ended the training, such as a full disk, matters more.
        print_line(f"No learning curve: {error}.")


@contextlib.contextmanager
def _loop(command: Any, mesh: Any, start: files.Loaded | None) -> Iterator[Any]:
    """The training loop of a command; its environments are closed at the end of the block."""
    config, name = command.config, command.environment
    if isinstance(config, sac.Config):
        # With asynchronous dispatch the gradient steps of SAC run in other threads while the environments step.
        jax.config.update("jax_cpu_enable_async_dispatch", True)
    with contextlib.ExitStack() as stack:
        with usage_errors(TypeError, ValueError, ModuleNotFoundError, zipfile.BadZipFile):
            if mesh is not None and command.algorithm != "ppo":
                raise UsageError(f"distributed: expected ppo, got {command.algorithm}, which trains on one device.")
            # Cloning has no num_envs; it makes one environment only to read the spaces.
            share = parallel.share(mesh, getattr(config, "num_envs", 1))
            count, chosen = share.stop - share.start, options.named_values(command.environment_options)
            if command.backend == "jax":
                chosen.setdefault("backend", "jax")
            elif name.partition(":")[0] not in envs.PACKAGES:
                announce_environments("num_envs", name, count, chosen)
            with environment_errors(name):
                environments = envs.make(name, num_envs=count, **chosen)
            if isinstance(environments, envs.Environment):
                both = environments.observation_space, environments.action_space
                if ":" in name and name.partition(":")[0] not in envs.PACKAGES:
                    # Training raises an error for the first fault only, and cannot see some of the others.
                    for fault in envs.check(environments, _CHECKED_STEPS):
                        print_line(f"{name}: {fault}")
            else:
                stack.enter_context(closing(environments, command.timeout))
                both = environments.single_observation_space, environments.single_action_space
            if names := _sinks(command):
                sinks.check(names)
            if isinstance(config, bc.Config):
                loop = bc.make(data.read_dataset(command.dataset, *both), bc.make_policy(*both, config), config)
            elif isinstance(config, ppo.Config):
                try:
                    loop = ppo.make(environments, config, start, mesh=mesh)
                except ValueError as error:
                    # The option has a longer name than the argument.
                    raise ValueError(re.sub("^policy: ", "initial_policy: ", str(error))) from error
            else:
                loop = sac.make(environments, config)
            check_memory(loop.policy, config)
        if loop.runner is not None:
            loop.runner.timeout = command.timeout
        if command.evaluate_every:
            target = environments if isinstance(environments, envs.Environment) else name
            numbers = {"every": command.evaluate_every, "episodes": command.evaluation_episodes}
            # The final evaluation has other episodes than those that choose the best policy.
            numbers |= {"seed": command.seed + 2 * options.EVALUATION_SEED, "timeout": command.timeout}
            loop = training.evaluating(loop, target, **numbers, environment_options=chosen)
        yield loop


def _connect(distributed: str | None) -> Any:
    """Connects the processes and returns a mesh of all their devices, or None to train on one device."""
    if distributed is None:
        return None
    try:
        parallel.connect(distributed)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"distributed: {' '.join(str(error).split())}") from error
    return parallel.mesh()


def _sinks(command: Any) -> list[str]:
    return [name for name in sinks.PACKAGES if getattr(command, name)]


def _digest(command: Any) -> dict[str, str]:
    """A dict with the SHA-256 digest of the dataset for behavioural cloning; an empty dict for other algorithms."""
    if not isinstance(command, options.TrainBC):
        return {}
    try:
        return {"dataset_sha256": data.digest(command.dataset)}
    except (ValueError, ModuleNotFoundError) as error:
        raise UsageError(f"dataset: {str(error).removeprefix('dataset: ')}") from error
    except OSError as error:
        raise UsageError(f"dataset: {command.dataset} cannot be read ({error.strerror}).") from error

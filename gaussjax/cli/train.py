"""The commands train and resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from gaussjax import envs, files, rollout
from gaussjax.cli import options, progress
from gaussjax.cli.errors import UsageError, environment_errors, usage_errors
from gaussjax.cli.policy_file import evaluate, refuse_import
from gaussjax.cli.progress import print_line
from gaussjax.envs.guard import closing
from gaussjax.training import bc, parallel, ppo, run, sac
from gaussjax.training.run import checkpoint, learning_curve, output_files, sinks

INTERRUPTED = 130
FAULTS = (
    files.PolicyFileError,
    FloatingPointError,
    OSError,
    rollout.EnvironmentStepError,
    run.TrainingError,
    sinks.SinkError,
)


class _Curve(NamedTuple):
    """A learning curve: unit of the steps, metric that is highest for the best policy, and labels of both axes."""

    unit: str = "steps"
    score: str = "episode_return"
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended")


_CLONING = _Curve("epochs", "log_prob", ("epochs", "mean log-likelihood of the recorded actions, nats"))


def train(command: Any) -> None:
    """Trains and evaluates a policy, and writes the results to a new folder."""
    environment, algorithm, seed = command.environment, command.algorithm, command.seed
    folder = command.out or Path("runs") / f"{environment.replace('/', '-')}-{algorithm}-seed{seed}"
    mesh = _connect(getattr(command, "distributed", None))
    if parallel.any_of(parallel.leads() and folder.exists()):
        raise UsageError(f"out: {folder} exists. Name another folder with --out, or remove this one.")
    saved = {**options.to_dict(command), **_digest(command)}
    with _loop(command, mesh) as loop:
        with usage_errors(TypeError, ValueError):
            state = loop.init(jax.random.key(seed))
        if parallel.leads():
            try:
                run.start(folder, saved)
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
    folder, path = command.folder, command.folder / run.CONFIG
    try:
        saved = json.loads(path.read_text())
        started = options.from_dict(saved)
    except OSError as error:
        raise UsageError(f"folder: {folder} is not a training folder ({error.strerror}: {run.CONFIG}).") from error
    except (ValueError, KeyError, TypeError, UsageError) as error:
        raise UsageError(f"folder: {path} is not a file that train wrote ({error}).") from error
    if command.environment is None:
        refuse_import(started.environment, path)
    elif command.environment != started.environment:
        raise UsageError(f"environment: expected {started.environment}, as the run has it. Leave the option out.")
    if {**saved, **_digest(started)} != saved:
        raise UsageError(f"dataset: {started.dataset} has changed since the training began. Restore it, or train anew.")
    with _loop(started, _connect(command.distributed)) as loop:
        try:
            resumed = run.restore(folder, loop, loop.init(jax.random.key(started.seed)))
        except FileNotFoundError as error:
            raise UsageError(str(error)) from error
        for notice in resumed.notices:
            print_line(notice)
        print_line(f"Resuming {folder} at step {int(resumed.state.steps):,}")
        _run(folder, loop, resumed.state, started, resumed.best)


def _run(folder: Path, loop: Any, state: Any, command: Any, best: float | None = None) -> None:
    """Trains to the end with a progress bar, then evaluates the policy."""
    first, start = int(state.steps), time.perf_counter()
    cloning = isinstance(command, options.TrainBC)
    curve = _CLONING if cloning else _Curve()
    total = command.config.num_epochs if cloning else command.config.total_steps
    if first >= total:
        raise UsageError(f"folder: {folder} is trained to its end, {first:,} {curve.unit}. There is nothing to resume.")
    metadata = {name: getattr(command, name) for name in ("environment", "algorithm", "seed")}
    full = sum(leaf.nbytes for leaf in jax.tree.leaves(state.buffer)) if isinstance(state, sac.State) else 0
    if full >= 1e6 and command.checkpoint_every:
        print_line(f"A checkpoint holds the replay buffer as far as it is filled, {full / 1e6:,.0f} MB at most.")
    with contextlib.ExitStack() as stack:
        outputs = []
        if parallel.leads():
            if names := _sinks(command):
                saved = json.loads((folder / run.CONFIG).read_text())
                outputs.append(stack.enter_context(sinks.open_sinks(names, folder, saved, first)))
            outputs.append(stack.enter_context(progress.bar(total, first, curve.unit)))
        try:
            state, interrupted = run.train(
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
        except FAULTS:
            print_line(f"Stopped: {_remains(folder)}")
            raise
        finally:
            if parallel.leads():
                _draw(folder, f"{command.algorithm} on {command.environment}, seed {command.seed}", curve)
    print_line(f"{int(state.steps) - first:,} {curve.unit} in {time.perf_counter() - start:.1f} s of training")
    if interrupted:
        print_line(f"Interrupted: {_remains(folder)}")
        sys.exit(INTERRUPTED)
    if not parallel.leads():
        return
    # Only the first process evaluates; the others need not wait for it.
    jax.distributed.shutdown()
    episodes, seed = command.evaluation_episodes, command.seed + options.EVALUATION_SEED
    evaluate(options.Evaluate(folder / run.POLICY, command.environment, episodes, seed, timeout=command.timeout))
    print_line(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def _draw(folder: Path, title: str, curve: _Curve) -> None:
    try:
        rows = output_files.read_metrics(folder / run.METRICS)
        learning_curve.draw(rows, folder / "learning_curve.png", title, score=curve.score, labels=curve.labels)
    except OSError as error:
        # Do not raise here: the error that ended the training, such as a full disk, matters more.
        print_line(f"No learning curve: {error}.")


def _remains(folder: Path) -> str:
    onward = f" Go on with: gaussjax resume {folder}" if (folder / checkpoint.LATEST).exists() else ""
    return f"the policy so far is {folder / run.POLICY}.{onward}"


@contextlib.contextmanager
def _loop(command: Any, mesh: Any) -> Iterator[Any]:
    """The training loop of a command; its environments are closed at the end of the block."""
    config, name = command.config, command.environment
    if isinstance(config, sac.Config):
        # With asynchronous dispatch the gradient steps of SAC run in other threads while the environments step.
        jax.config.update("jax_cpu_enable_async_dispatch", True)
    with contextlib.ExitStack() as stack:
        with usage_errors(TypeError, ValueError, ModuleNotFoundError, zipfile.BadZipFile):
            if mesh is not None and command.algorithm != "ppo":
                raise UsageError(f"distributed: expected ppo, got {command.algorithm}, which trains on one device.")
            if command.backend == "jax":
                environments = envs.make_functional(name)
                spaces = environments.observation_space, environments.action_space
            else:
                # Cloning has no num_envs; it makes one environment only to read the spaces.
                share = parallel.share(mesh, getattr(config, "num_envs", 1))
                with environment_errors(name):
                    environments = envs.make_vector(name, share.stop - share.start)
                stack.enter_context(closing(environments, command.timeout))
                spaces = environments.single_observation_space, environments.single_action_space
            if names := _sinks(command):
                sinks.check(names)
            if isinstance(config, bc.Config):
                loop = bc.make(bc.read_dataset(command.dataset), bc.make_policy(*spaces, config), config)
            elif isinstance(config, ppo.Config):
                loop = ppo.make(environments, config, mesh=mesh)
            else:
                loop = sac.make(environments, config)
        if loop.runner is not None:
            loop.runner.timeout = command.timeout
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
        return {"dataset_sha256": hashlib.sha256(Path(command.dataset).read_bytes()).hexdigest()}
    except OSError as error:
        raise UsageError(f"dataset: {command.dataset} cannot be read ({error.strerror}).") from error

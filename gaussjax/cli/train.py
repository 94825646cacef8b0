"""The commands that train: from the start, or onward from a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
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
from gaussjax.cli import progress
from gaussjax.cli.errors import UsageError
from gaussjax.cli.options import CONFIGS, EVALUATION_SEED, Evaluate, Resume
from gaussjax.cli.policy_file import evaluate, make, print_line, refuse_import
from gaussjax.training import bc, ppo, run, sac
from gaussjax.training.parallel import processes, sharding
from gaussjax.training.run import checkpoint, report, sinks

INTERRUPTED = 130
FAULTS = (
    files.PolicyFileError,
    FloatingPointError,
    OSError,
    rollout.EnvironmentStepError,
    run.TrainingError,
    sinks.SinkError,
)
_RUN_OPTIONS = ("backend", "evaluation_episodes", "checkpoint_every", "max_skipped", "timeout", *sinks.PACKAGES)


class _Account(NamedTuple):
    """How the steps of a training are called, and the metric that is highest where the policy is best."""

    unit: str = "steps"
    score: str = "episode_return"
    labels: tuple[str, str] = ("environment steps", "mean return of the episodes that ended")


_ACCOUNTS = {
    "ppo": _Account(),
    "sac": _Account(),
    "bc": _Account("epochs", "log_prob", ("epochs", "mean log-likelihood of the recorded actions, nats")),
}


def train(command: Any) -> None:
    """Trains, shows progress, evaluates, and leaves the results in a folder."""
    environment, algorithm, seed, config = command.environment, command.algorithm, command.seed, command.config
    folder = command.out or Path("runs") / f"{environment.replace('/', '-')}-{algorithm}-seed{seed}"
    mesh = _mesh(command.distributed)
    if processes.any_of(processes.leads() and folder.exists()):
        raise UsageError(f"out: {folder} exists. Name another folder with --out, or remove this one.")
    options = {name: getattr(command, name) for name in _RUN_OPTIONS}
    described = {"environment": environment, "algorithm": algorithm, "seed": seed, **options}
    if algorithm == "bc":
        described |= {"dataset": str(command.dataset.resolve()), "dataset_sha256": _digest(command.dataset)}
    with _algorithm(config, described, mesh) as loop:
        try:
            state = loop.init(jax.random.key(seed))
        except (TypeError, ValueError) as error:
            if processes.lost(error):
                raise
            raise UsageError(str(error)) from error
        if processes.leads():
            try:
                run.start(folder, {**described, **dataclasses.asdict(config)})
            except OSError as error:
                raise UsageError(f"out: {folder} cannot be made ({error.strerror}). Name another folder.") from error
        print_line(f"Training {algorithm} on {environment}, seed {seed}, into {folder}")
        try:
            _run(folder, loop, state, config, described)
        except sinks.SinkError:
            # Nothing was trained: the name is free again.
            shutil.rmtree(folder)
            raise


def resume(command: Resume) -> None:
    """Goes on with a training from its last checkpoint, with the options it was started with."""
    folder = command.folder
    try:
        described = json.loads((folder / run.CONFIG).read_text())
        described = {"backend": "gymnasium", **described}
        kind = CONFIGS[described["algorithm"]]
        config = kind(**{field.name: _tuple(described[field.name]) for field in dataclasses.fields(kind)})
        data = ("dataset", "dataset_sha256") if kind is bc.Config else ()
        described = {name: described[name] for name in ("environment", "algorithm", "seed", *_RUN_OPTIONS, *data)}
    except OSError as error:
        raise UsageError(f"folder: {folder} is not one of a training ({error.strerror}: {run.CONFIG}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"folder: {folder / run.CONFIG} is not what train wrote ({error}).") from error
    if command.environment is None:
        refuse_import(described["environment"], folder / run.CONFIG)
    elif command.environment != described["environment"]:
        raise UsageError(f"environment: expected {described['environment']}, as the run has it. Leave the option out.")
    if "dataset" in described and _digest(Path(described["dataset"])) != described["dataset_sha256"]:
        raise UsageError(f"dataset: {described['dataset']} is not the file any more that the training began with.")
    mesh = _mesh(command.distributed)
    with _algorithm(config, described, mesh) as loop:
        try:
            resumed = run.restore(folder, loop, loop.init(jax.random.key(described["seed"])))
        except FileNotFoundError as error:
            raise UsageError(str(error)) from error
        for notice in resumed.notices:
            print_line(notice)
        print_line(f"Resuming {folder} at step {int(resumed.state.steps):,}")
        _run(folder, loop, resumed.state, config, described, resumed.best)


def _run(
    folder: Path, loop: Any, state: Any, config: Any, described: dict[str, Any], best: float | None = None
) -> None:
    first, start = int(state.steps), time.perf_counter()
    unit, score, labels = _ACCOUNTS[described["algorithm"]]
    total = config.num_epochs if isinstance(config, bc.Config) else config.total_steps
    if first >= total:
        raise UsageError(f"folder: {folder} is trained to its end, {first:,} {unit}. There is nothing to resume.")
    title = f"{described['algorithm']} on {described['environment']}, seed {described['seed']}"
    options = {name: described[name] for name in ("checkpoint_every", "max_skipped")}
    metadata = {name: described[name] for name in ("environment", "algorithm", "seed")}
    full = sum(leaf.nbytes for leaf in jax.tree.leaves(state.buffer)) if isinstance(state, sac.State) else 0
    if full >= 1e6 and options["checkpoint_every"]:
        print_line(f"A checkpoint holds the replay buffer as far as it is filled, {full / 1e6:,.0f} MB at most.")
    with contextlib.ExitStack() as stack:
        shows = []
        if processes.leads():
            shows = [_sinks(folder, described, first), progress.shown(total, first, unit)]
        shows = [stack.enter_context(show) for show in shows]

        def shown(row: Any) -> None:
            for show in shows:
                show(row)

        try:
            state, interrupted = run.train(
                folder, loop, state, metadata, total_steps=total, best=best, score=score, shown=shown, **options
            )
        except FAULTS:
            print_line(f"Stopped: {_left(folder)}")
            raise
        finally:
            if processes.leads():
                _picture(folder, title, score, labels)
    print_line(f"{int(state.steps) - first:,} {unit} in {time.perf_counter() - start:.1f} s of training")
    if interrupted:
        print_line(f"Interrupted: {_left(folder)}")
        sys.exit(INTERRUPTED)
    if not processes.leads():
        return
    # From here on the others are not needed, and do not wait.
    processes.disconnect()
    seed = described["seed"] + EVALUATION_SEED
    environment, episodes, timeout = (described[name] for name in ("environment", "evaluation_episodes", "timeout"))
    evaluate(Evaluate(folder / run.POLICY, environment, episodes, seed, timeout=timeout))
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    print_line(f"{folder}: {names}")


def _picture(folder: Path, title: str, score: str, labels: tuple[str, str]) -> None:
    try:
        rows = report.read(folder / run.METRICS)
        report.learning_curve(rows, folder / "learning_curve.png", title, score=score, labels=labels)
    except OSError as error:
        # The disk is full, or the folder gone: what ended the training is what is to be told.
        print_line(f"No learning curve: {error}.")


def _left(folder: Path) -> str:
    onward = f" Go on with: gaussjax resume {folder}" if (folder / checkpoint.LATEST).exists() else ""
    return f"the policy so far is {folder / run.POLICY}.{onward}"


@contextlib.contextmanager
def _algorithm(config: Any, described: dict[str, Any], mesh: Any) -> Iterator[Any]:
    """The algorithm on its environments, which are closed whatever happens."""
    if isinstance(config, sac.Config):
        # Its gradient steps run in other threads while the environments step.
        jax.config.update("jax_cpu_enable_async_dispatch", True)
    with contextlib.ExitStack() as stack:
        try:
            if described["backend"] == "jax":
                environments = envs.make_functional(described["environment"])
                spaces = environments.observation_space, environments.action_space
            else:
                # Cloning needs no environment but to know its spaces.
                share = sharding.share(mesh, getattr(config, "num_envs", 1))
                environments = make(described["environment"], share.stop - share.start)
                stack.enter_context(contextlib.closing(environments))
                spaces = environments.single_observation_space, environments.single_action_space
            sinks.check(_wanted(described))
            if mesh is not None and not isinstance(config, ppo.Config):
                raise ValueError(
                    f"distributed: expected ppo, got {described['algorithm']}, which trains on one device."
                )
            if isinstance(config, bc.Config):
                loop = bc.make(bc.read_dataset(described["dataset"]), bc.make_policy(*spaces, config), config)
            elif isinstance(config, ppo.Config):
                loop = ppo.make(environments, config, mesh=mesh)
            else:
                loop = sac.make(environments, config)
        except (TypeError, ValueError, ModuleNotFoundError, zipfile.BadZipFile) as error:
            raise UsageError(str(error)) from error
        if loop.runner is not None:
            loop.runner.timeout = described["timeout"]
        yield loop


def _mesh(distributed: str | None) -> Any:
    """All devices of all processes, or None for one device."""
    if distributed is None:
        return None
    try:
        processes.connect(distributed)
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"distributed: {' '.join(str(error).split())}") from error
    return sharding.mesh()


def _wanted(described: dict[str, Any]) -> list[str]:
    return [name for name in sinks.PACKAGES if described[name]]


def _sinks(folder: Path, described: dict[str, Any], first: int) -> contextlib.AbstractContextManager[Any]:
    return sinks.opened(_wanted(described), folder, json.loads((folder / run.CONFIG).read_text()), first)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"dataset: {path} cannot be read ({error.strerror}).") from error


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""The command line: train, resume, evaluate, and look into a policy file, export it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

import gaussjax
from gaussjax import artifact, envs, export, rollout
from gaussjax.training import ppo, processes, report, run, sharding
from gaussjax.usage import UsageError, errors_in_one_line

try:
    import tyro
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gaussjax.commands import EVALUATION_SEED, Evaluate, Export, Info, Resume, Train
    from gaussjax.training import progress
except ModuleNotFoundError as missing:
    sys.exit(f"gaussjax: the command line needs {missing.name}: pip install 'gaussjax[train]'")

INTERRUPTED = 130
_RUN_OPTIONS = ("backend", "evaluation_episodes", "checkpoint_every", "max_skipped", "timeout")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command `gaussjax`; exits with 2 where the command cannot be carried out."""
    try:
        with errors_in_one_line():
            commands = Train | Evaluate | Resume | Info | Export
            command = tyro.cli(commands, prog="gaussjax", description=gaussjax.__doc__, args=arguments)
        _cache_compiled_programs()
        run_command = {Train: train, Evaluate: evaluate, Resume: resume, Info: info, Export: export_}
        run_command[type(command)](command)
    except UsageError as error:
        _fail(str(error), 2)
    except (artifact.PolicyFileError, FloatingPointError, rollout.EnvironmentStepError, run.TrainingError) as error:
        _fail(str(error), 1)
    except jax.errors.JaxRuntimeError as error:
        if not processes.several():
            raise
        _fail(f"distributed: another process has ended ({str(error).splitlines()[0]})", 1)


def train(command: Train) -> None:
    """Trains, shows progress, evaluates, and leaves the results in a folder."""
    environment, algorithm, seed, config = command.environment, command.algorithm, command.seed, command.config
    folder = command.out or Path("runs") / f"{environment.replace('/', '-')}-{algorithm}-seed{seed}"
    mesh = _mesh(command.distributed)
    if processes.any_of(processes.leads() and folder.exists()):
        raise UsageError(f"out: {folder} exists. Name another folder with --out, or remove this one.")
    options = {name: getattr(command, name) for name in _RUN_OPTIONS}
    described = {"environment": environment, "algorithm": algorithm, "seed": seed, **options}
    with _algorithm(environment, config, described, mesh) as loop:
        if processes.leads():
            run.start(folder, {**described, **dataclasses.asdict(config)})
        print_line(f"Training {algorithm} on {environment}, seed {seed}, into {folder}")
        _run(folder, loop, loop.init(jax.random.key(seed)), config, described)


def resume(command: Resume) -> None:
    """Goes on with a training from its last checkpoint, with the options it was started with."""
    folder = command.folder
    try:
        described = json.loads((folder / run.CONFIG).read_text())
        config = ppo.Config(**{field.name: _tuple(described[field.name]) for field in dataclasses.fields(ppo.Config)})
        described = {"backend": "gymnasium", **described}
        described = {name: described[name] for name in ("environment", "algorithm", "seed", *_RUN_OPTIONS)}
    except OSError as error:
        raise UsageError(f"folder: {folder} is not one of a training ({error.strerror}: {run.CONFIG}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"folder: {folder / run.CONFIG} is not what train wrote ({error}).") from error
    _refuse_import(described["environment"], folder / run.CONFIG)
    mesh = _mesh(command.distributed)
    with _algorithm(described["environment"], config, described, mesh) as loop:
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
    if first >= config.total_steps:
        raise UsageError(f"folder: {folder} is trained to its end, {first:,} steps. There is nothing to resume.")
    title = f"{described['algorithm']} on {described['environment']}, seed {described['seed']}"
    options = {name: described[name] for name in ("checkpoint_every", "max_skipped")}
    metadata = {name: described[name] for name in ("environment", "algorithm", "seed")}
    leads = processes.leads()
    with progress.shown(config.total_steps, first) if leads else contextlib.nullcontext(_ignore) as show:
        try:
            state, interrupted = run.train(
                folder, loop, state, metadata, total_steps=config.total_steps, best=best, shown=show, **options
            )
        finally:
            if leads:
                report.learning_curve(report.read(folder / run.METRICS), folder / "learning_curve.png", title)
    print_line(f"{int(state.steps) - first:,} steps in {time.perf_counter() - start:.1f} s of training")
    if interrupted:
        kept = f" Go on with: gaussjax resume {folder}" if options["checkpoint_every"] else ""
        print_line(f"Interrupted: the policy so far is {folder / run.POLICY}.{kept}")
        sys.exit(INTERRUPTED)
    if not leads:
        return
    seed = described["seed"] + EVALUATION_SEED
    evaluate(Evaluate(folder / run.POLICY, None, described["evaluation_episodes"], seed))
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    print_line(f"{folder}: {names}")


def evaluate(command: Evaluate) -> None:
    """Runs a policy file in its environment and prints the returns as a table."""
    episodes = command.episodes
    if episodes < 1:
        raise UsageError(f"episodes: expected at least 1, got {episodes}.")
    loaded = _load(command.file)
    environment = command.environment or loaded.metadata.get("environment")
    if environment is None:
        raise UsageError(f"environment: {command.file} names none. Say which with --environment.")
    if command.environment is None:
        _refuse_import(environment, command.file)
    _make(environment, 1).close()
    try:
        result = rollout.evaluate(
            loaded.policy,
            loaded.params,
            environment,
            normalizer=loaded.normalizer,
            episodes=episodes,
            seed=command.seed,
        )
    except ValueError as error:
        raise UsageError(f"environment: {environment} is not one for this policy: {error}") from error
    returns = np.array(result.returns)
    table = Table(title=f"{environment}: {episodes} episodes, deterministic actions")
    for name in ("mean return", "deviation", "lowest", "highest", "mean length"):
        table.add_column(name, justify="right")
    figures = (returns.mean(), returns.std(), returns.min(), returns.max(), float(np.mean(result.lengths)))
    table.add_row(*(f"{figure:.1f}" for figure in figures))
    Console().print(table)


def info(command: Info) -> None:
    """Prints what a file says of itself as two tables."""
    try:
        facts, arrays = artifact.summary(command.file)
    except OSError as error:
        raise UsageError(f"file: {command.file} cannot be read ({error.strerror}).") from error
    table = Table("", "", title=str(command.file), show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name), Text(value))
    listed = Table("array", "type", "shape")
    for row in arrays:
        listed.add_row(*(Text(cell) for cell in row))
    Console().print(table, listed)


def export_(command: Export) -> None:
    """Writes a program that acts as the policy does, and says what goes in and out of it."""
    loaded = _load(command.file)
    suffix = {"stablehlo": ".stablehlo", "onnx": ".onnx", "numpy": ".npz"}[command.format]
    path = command.out or command.file.with_suffix(suffix)
    try:
        program = export.export(
            path,
            loaded.policy,
            loaded.params,
            normalizer=loaded.normalizer,
            format=command.format,
            deterministic=not command.stochastic,
        )
    except (NotImplementedError, ModuleNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"export: {error}") from error
    given = ", ".join(f"{name} {shape.dtype}{list(shape.shape)}" for name, shape in program.shapes("batch").items())
    print_line(f"{path}: {given} -> {', '.join(program.outputs)}; the same actions as policy.act on random inputs")


def _load(file: Path) -> artifact.Loaded:
    try:
        return artifact.load(file)
    except OSError as error:
        raise UsageError(f"file: {file} cannot be read ({error.strerror}).") from error


@contextlib.contextmanager
def _algorithm(environment: str, config: Any, described: dict[str, Any], mesh: Any) -> Iterator[Any]:
    """The algorithm on its environments, which are closed whatever happens."""
    with contextlib.ExitStack() as stack:
        try:
            if described["backend"] == "jax":
                environments = envs.make_functional(environment)
            else:
                share = sharding.share(mesh, config.num_envs)
                environments = stack.enter_context(contextlib.closing(_make(environment, share.stop - share.start)))
            loop = ppo.make(environments, config, mesh=mesh)
        except (TypeError, ValueError) as error:
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


def _ignore(_: Any) -> None:
    """Shows nothing."""


def _refuse_import(environment: Any, file: Path) -> None:
    # Gymnasium imports the module before a colon: a name that comes from a file must not.
    if not isinstance(environment, str) or ":" in environment:
        raise UsageError(
            f"environment: {file} names {environment!r}, which would import a module. Where you trust it, say so with "
            f"--environment."
        )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def print_line(text: str) -> None:
    """Prints without colours, in one of several processes."""
    if processes.leads():
        Console().print(text, highlight=False, markup=False)


def _make(environment: str, num_envs: int) -> Any:
    import gymnasium

    try:
        return envs.make_vector(environment, num_envs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UsageError(f"environment: {' '.join(str(error).split())}") from error


def _cache_compiled_programs() -> None:
    """Keeps compiled programs between runs, unless the environment already says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "gaussjax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _fail(message: str, code: int) -> NoReturn:
    print(f"gaussjax: {message}", file=sys.stderr, flush=True)
    if processes.several():
        # An orderly exit would wait for the others, who may wait for this process.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

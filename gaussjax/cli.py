"""The command line: train a policy on an environment, and evaluate a policy file."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import jax
import numpy as np

import gaussjax
from gaussjax import artifact, envs, rollout
from gaussjax.training import ppo, report

try:
    import tyro
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ModuleNotFoundError as missing:
    sys.exit(f"gaussjax: the command line needs {missing.name}: pip install 'gaussjax[train]'")

INTERRUPTED = 130
EVALUATION_SEED = 10_000


class UsageError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a Gaussian policy on a Gymnasium environment."""

    environment: tyro.conf.Positional[str]
    """Gymnasium name, such as Pendulum-v1."""
    algorithm: Literal["ppo"] = "ppo"
    """How to train."""
    seed: int = 0
    """Of everything that is drawn."""
    out: Path | None = None
    """Folder for the results; it must not exist. Default: runs/ENVIRONMENT-ALGORITHM-seedN."""
    evaluation_episodes: int = 20
    """Episodes of the final, deterministic evaluation."""
    config: tyro.conf.OmitArgPrefixes[ppo.Config] = dataclasses.field(default_factory=ppo.Config)
    """Options of the algorithm."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a policy file with its deterministic action."""

    file: tyro.conf.Positional[Path]
    """Written by train, or by gaussjax.save."""
    environment: str | None = None
    """Gymnasium name; the one it was trained on if left out."""
    episodes: int = 20
    """How many to run."""
    seed: int = EVALUATION_SEED
    """Of the first episode's environment; the next ones count up."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command `gaussjax`; exits with 2 where the command cannot be carried out."""
    try:
        with _errors_in_one_line():
            command = tyro.cli(Train | Evaluate, prog="gaussjax", description=gaussjax.__doc__, args=arguments)
        _cache_compiled_programs()
        if isinstance(command, Train):
            train(command)
        else:
            evaluate(command)
    except UsageError as error:
        _fail(str(error), 2)
    except (artifact.PolicyFileError, FloatingPointError) as error:
        _fail(str(error), 1)


def train(command: Train) -> None:
    """Trains, shows progress, evaluates, and leaves the results in a folder."""
    environment, algorithm, seed, config = command.environment, command.algorithm, command.seed, command.config
    folder = command.out or Path("runs") / f"{environment.replace('/', '-')}-{algorithm}-seed{seed}"
    if folder.exists():
        raise UsageError(f"out: {folder} exists. Name another folder with --out, or remove this one.")
    environments = _make(environment, config.num_envs)
    try:
        loop = ppo.make(environments, config)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    folder.mkdir(parents=True)
    described = {"environment": environment, "algorithm": algorithm, "seed": seed, **dataclasses.asdict(config)}
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")

    console = Console()
    console.print(f"Training {algorithm} on {environment}, seed {seed}, into {folder}", highlight=False)
    progress = Progress(
        TextColumn("{task.fields[shown]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
        console=console,
    )
    rows: list[ppo.Metrics] = []
    state, interrupted = loop.init(jax.random.key(seed)), False
    start = time.perf_counter()
    with report.MetricsFile(folder / "metrics.csv") as metrics, progress, _interruptible():
        bar = progress.add_task("train", total=config.total_steps, shown="compiling")
        latest = float("nan")
        try:
            while state.steps < config.total_steps:
                state, row = loop.step(state)
                metrics.write(row)
                rows.append(row)
                latest = row["episode_return"] if row["episode_return"] == row["episode_return"] else latest
                shown = f"return {latest:9.1f}  {row['steps_per_second']:8,.0f} steps/s"
                progress.update(bar, completed=min(state.steps, config.total_steps), shown=shown)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            seconds = time.perf_counter() - start
            environments.close()
            trained = {"environment": environment, "algorithm": algorithm, "seed": seed, "steps": state.steps}
            statistics = state.observation_statistics if config.normalize_observations else None
            artifact.save(
                folder / "policy.safetensors", loop.policy, state.params, normalizer=statistics, metadata=trained
            )
            report.learning_curve(rows, folder / "learning_curve.png", f"{algorithm} on {environment}, seed {seed}")
    console.print(f"{state.steps:,} steps in {seconds:.1f} s of training", highlight=False)
    if interrupted:
        console.print(f"Interrupted: the policy so far is {folder / 'policy.safetensors'}", highlight=False)
        sys.exit(INTERRUPTED)
    evaluate(Evaluate(folder / "policy.safetensors", None, command.evaluation_episodes, seed + EVALUATION_SEED))
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    console.print(f"{folder}: {names}", highlight=False)


def evaluate(command: Evaluate) -> None:
    """Runs a policy file in its environment and prints the returns as a table."""
    episodes = command.episodes
    if episodes < 1:
        raise UsageError(f"episodes: expected at least 1, got {episodes}.")
    try:
        loaded = artifact.load(command.file)
    except OSError as error:
        raise UsageError(f"file: {command.file} cannot be read ({error.strerror}).") from error
    environment = command.environment or loaded.metadata.get("environment")
    if environment is None:
        raise UsageError(f"environment: {command.file} names none. Say which with --environment.")
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


def _make(environment: str, num_envs: int) -> Any:
    import gymnasium

    try:
        return envs.make_vector(environment, num_envs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UsageError(f"environment: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the training as Ctrl-C does: the state is saved first."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Turns the framed errors of the parser into one line."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(f"{_one_line(printed.getvalue())} See gaussjax --help.") from None


def _one_line(framed: str) -> str:
    """The message of a framed error, and the option that was perhaps meant."""
    rows = [line.strip("│╭╮╰╯ ") for line in framed.splitlines()[1:]]
    # A row of lines only is a rule; where the terminal has no frames, one follows the title too.
    body = itertools.dropwhile(lambda row: not row.strip("─-"), rows)
    message = " ".join(itertools.takewhile(lambda row: row.strip("─-"), body))
    message = re.sub(r"^Error parsing \S*__\S*: ", "", message).rstrip(".")
    meant = next((rows[i + 1].split()[0] for i, row in enumerate(rows) if row.startswith("Perhaps you meant")), None)
    return f"{message}. Perhaps you meant {meant}." if meant else f"{message}."


def _cache_compiled_programs() -> None:
    """Keeps compiled programs between runs, unless the environment already says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "gaussjax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _fail(message: str, code: int) -> NoReturn:
    print(f"gaussjax: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

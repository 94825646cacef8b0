"""The commands that take a policy file: evaluate it, look into it, export it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaussjax import envs, files, rollout
from gaussjax.cli import gif
from gaussjax.cli.errors import UsageError
from gaussjax.cli.options import Evaluate, Export, Info
from gaussjax.export import program as export
from gaussjax.training.parallel import processes


def evaluate(command: Evaluate) -> None:
    """Runs a policy file in its environment and prints the returns as a table."""
    episodes = command.episodes
    if command.gif and command.gif.suffix.lower() != ".gif":
        raise UsageError(f"gif: expected a name that ends in .gif, got {command.gif}.")
    if command.gif and not command.gif.parent.is_dir():
        raise UsageError(f"gif: expected an existing folder, got {command.gif.parent}.")
    loaded = _load(command.file)
    environment = command.environment or loaded.metadata.get("environment")
    if environment is None:
        raise UsageError(f"environment: {command.file} names none. Say which with --environment.")
    if command.environment is None:
        refuse_import(environment, command.file)
    make(environment, 1).close()
    recorder = gif.Recorder()
    try:
        result = rollout.evaluate(
            loaded.policy,
            loaded.params,
            environment,
            normalizer=loaded.normalizer,
            episodes=episodes,
            seed=command.seed,
            max_steps=command.max_steps,
            timeout=command.timeout,
            on_step=recorder.watch if command.gif else None,
        )
    except ValueError as error:
        raise UsageError(f"environment: {environment} is not one for this policy: {error}") from error
    except gif.DrawingError as error:
        raise UsageError(str(error)) from error
    returns = np.array(result.returns)
    table = Table(title=f"{environment}: {episodes} episodes, deterministic actions")
    for name in ("mean return", "deviation", "lowest", "highest", "mean length"):
        table.add_column(name, justify="right")
    figures = (returns.mean(), returns.std(), returns.min(), returns.max(), float(np.mean(result.lengths)))
    table.add_row(*(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    if result.cut:
        print_line(f"{result.cut} of {episodes} episodes had not ended after {command.max_steps:,} steps and were cut.")
    if command.gif:
        try:
            recorder.save(command.gif)
        except OSError as error:
            raise UsageError(f"gif: {command.gif} cannot be written ({error.strerror}).") from error
        print_line(f"{command.gif}: the first episode, return {returns[0]:.1f}, {len(recorder.pictures)} pictures")


def info(command: Info) -> None:
    """Prints what a file says of itself as two tables."""
    try:
        facts, arrays = files.summary(command.file)
    except OSError as error:
        raise _unreadable(command.file, error) from error
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
    reader = ", read by numpy_act.py beside it" if command.format == "numpy" else ""
    raw = ", as the environment gives them" if loaded.normalizer is not None else ""
    print_line(
        f"{path}{reader}: {given}{raw} -> {', '.join(program.outputs)}; compared with policy.act on random inputs"
    )


def _load(file: Path) -> files.Loaded:
    try:
        return files.load(file)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> UsageError:
    """The folder of a training is often meant for a file in it."""
    folder = file if file.is_dir() else file.parent
    inside = sorted(path.name for path in folder.glob("*.safetensors"))
    hint = f" {folder} has {', '.join(inside)}." if inside else ""
    return UsageError(f"file: {file} cannot be read ({error.strerror}).{hint}")


def refuse_import(environment: Any, file: Path) -> None:
    """Refuses a name that would import a module."""
    # Gymnasium imports the module before a colon: a name that comes from a file must not.
    if not isinstance(environment, str) or ":" in environment:
        raise UsageError(
            f"environment: {file} names {environment!r}, which would import a module. Where you trust it, say so with "
            f"--environment."
        )


def make(environment: str, num_envs: int) -> Any:
    """Copies of an environment by name."""
    import gymnasium

    try:
        return envs.make_vector(environment, num_envs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UsageError(f"environment: {' '.join(str(error).split())}") from error
    except (AttributeError, ImportError, RuntimeError) as error:
        # MuJoCo loads what it draws with when it is imported, and breaks in many ways where that is missing.
        if "MUJOCO_GL" not in os.environ:
            raise
        raise UsageError(
            f"environment: {environment} cannot be made with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}). Install "
            f"libegl1 for egl or libosmesa6 for osmesa, or unset MUJOCO_GL."
        ) from error


def print_line(text: str) -> None:
    """Prints without colours, in the first of several processes."""
    if processes.leads():
        Console().print(text, highlight=False, markup=False, soft_wrap=True)

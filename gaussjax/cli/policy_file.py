"""The commands evaluate, info and export, which read a policy file, and convert, which writes one."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gaussjax import envs, files, rollout, spaces
from gaussjax import export as programs
from gaussjax.cli import gif
from gaussjax.cli.errors import UsageError, announce_environments, environment_errors, usage_errors
from gaussjax.cli.options import Convert, Evaluate, Export, Info, Play, named_values
from gaussjax.cli.progress import print_line
from gaussjax.core.choices import choose
from gaussjax.core.text import printable
from gaussjax.envs.guard import close
from gaussjax.envs.make import WRAPPERS
from gaussjax.training.algorithm import exploration_for
from gaussjax.training.run import INITIAL, POLICY

# Equal numbers in a row, such as the bounds of a Box. The number's length is limited, because a file may be hostile.
_REPEATED = re.compile(r"(?<![^\s\[])([^\s,\[\]]{1,30})(?:, \1){3,}(?=[,\]])")


# Options of an environment that a policy file may choose; others have to be repeated.
_SAVED_OPTIONS = ("max_steps", "action_repeat", "backend", "impl", *WRAPPERS)


def evaluate(command: Evaluate) -> None:
    """Runs the policy of a file in its environment and prints the returns as a table."""
    episodes = command.episodes
    if command.gif and command.gif.suffix.lower() != ".gif":
        raise UsageError(f"gif: expected a name that ends in .gif, got {command.gif}.")
    if command.gif and not command.gif.parent.is_dir():
        raise UsageError(f"gif: expected an existing folder, got {command.gif.parent}.")
    if command.gif and command.gif.is_dir():
        raise UsageError(f"gif: expected the name of a file, got the folder {command.gif}.")
    _refuse_itself("gif", command.gif, _policy(command.file))
    loaded, name, chosen, environment = opened(command, draws=command.gif is not None)
    recorder = gif.Recorder()
    try:
        result = rollout.evaluate(
            loaded.policy,
            loaded.params,
            environment,
            normalizer=loaded.normalizer,
            episodes=episodes,
            seed=command.seed,
            deterministic=not command.stochastic,
            exploration=exploration_for(command, loaded.policy, None),
            max_steps=command.max_steps,
            timeout=command.timeout,
            on_step=recorder.record if command.gif else None,
            environment_options=chosen,
        )
    except ValueError as error:
        raise UsageError(f"environment: {name} does not fit this policy: {error}") from error
    returns, kind = np.array(result.returns), "sampled" if command.stochastic else "deterministic"
    table = Table(title=Text(f"{printable(name)}: {episodes} episode{'s'[: episodes > 1]}, {kind} actions"))
    for name in ("mean return", "deviation", "lowest", "highest", "mean length"):
        table.add_column(name, justify="right")
    figures = (returns.mean(), returns.std(), returns.min(), returns.max(), float(np.mean(result.lengths)))
    table.add_row(*(f"{figure:.1f}" for figure in figures))
    Console().print(table)
    print_line(_smoothness(result.smoothness))
    if result.cut:
        print_line(f"Episodes that were cut after {command.max_steps:,} steps: {result.cut} of {episodes}.")
    if command.gif:
        try:
            recorder.save(command.gif)
        except OSError as error:
            raise UsageError(f"gif: {command.gif} cannot be written ({error.strerror}).") from error
        print_line(f"{command.gif}: the first episode, return {returns[0]:.1f}, {len(recorder.pictures)} pictures")


def opened(command: Play, draws: bool = False) -> tuple[files.Loaded, str, dict[str, Any], Any]:
    """The policy of a command, and the name, the options and the record or the name of its environment.

    Args:
        command: Options of the command.
        draws: True for an environment that draws pictures.
    """
    file, loaded = load(command.file)
    name, chosen = command.environment or loaded.metadata.get("environment"), named_values(command.environment_options)
    if name is None:
        raise UsageError(f"environment: {file} names no environment. Name one with --environment.")
    if command.environment is None:
        refuse_import(name, file)
        saved = loaded.metadata.get("environment_options")
        saved = saved if isinstance(saved, dict) else {}
        chosen = {option: saved[option] for option in _SAVED_OPTIONS if option in saved} | chosen
    return loaded, name, chosen, made(name, chosen, command, draws)


def made(name: str, chosen: dict[str, Any], command: Play, draws: bool = False) -> Any:
    """The record of a JAX environment, or the name of one of Gymnasium; raises UsageError if it cannot be made."""
    with environment_errors(name):
        render: dict[str, Any] = {"render_mode": "rgb_array"}
        found = envs.make(name, **chosen, **(render if draws and name.partition(":")[0] not in envs.PACKAGES else {}))
    if isinstance(found, envs.Environment):
        if draws:
            raise UsageError(f"gif: expected an environment of Gymnasium, which draws pictures, got {name}.")
        return found
    close(found, command.timeout)
    announce_environments("episodes", name, command.episodes, chosen)
    return name


def _smoothness(found: Any) -> str:
    share = "" if np.isnan(found.relative_change) else f" ({found.relative_change:.1%} of half the Box's width)"
    return (
        f"mean change of an action in a step: {found.change:.3g}{share}\n"
        f"share of the actions' variance with periods below 4 steps: {found.fast_share:.1%}"
    )


def info(command: Info) -> None:
    """Prints the description and the arrays of a file as two tables."""
    file = _policy(command.file)
    with _readable(file):
        facts, arrays = files.summary(file)
    table = Table("", "", title=Text(printable(file)), show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name), Text(_REPEATED.sub(lambda found: f"{found[1]} × {found[0].count(',') + 1}", value)))
    listed = Table("array", "type", "shape")
    for row in arrays:
        listed.add_row(*(Text(cell) for cell in row))
    Console().print(table, listed)


def export(command: Export) -> None:
    """Writes a program that computes the actions of a policy, and prints the program's inputs and outputs."""
    file = _policy(command.file)
    write = {"stablehlo": programs.stablehlo, "onnx": programs.onnx, "numpy": programs.numpy}[command.format]
    path = command.out or file.with_suffix(".npz" if command.format == "numpy" else f".{command.format}")
    _refuse_itself("out", path, file)
    refuse_existing(path, command.force)
    policy, params, normalizer, _ = load(file)[1]
    with usage_errors(NotImplementedError, ModuleNotFoundError, ValueError, OSError):
        program = write(path, policy, params, normalizer=normalizer, deterministic=not command.stochastic)
    inputs = ", ".join(f"{name} {shape.dtype}{list(shape.shape)}" for name, shape in program.shapes("batch").items())
    reader = ", read by numpy_act.py beside it" if command.format == "numpy" else ""
    raw = " as the environment gives them" if normalizer is not None else ""
    print_line(
        f"{path}{reader}: {inputs}{raw} -> {', '.join(program.outputs)}; compared with policy.act on random inputs"
    )


def convert(command: Convert) -> None:
    """Writes the policy of another library as a policy file, and prints the settings that the checkpoint lacks."""
    file, library = command.file, command.from_
    path = command.out or Path(f"{file.with_suffix('') if file.is_file() else file}.safetensors")
    refuse_existing(path, command.force)
    # Imported on first use, because the other commands need no reader.
    read = importlib.import_module(f"gaussjax.interop.{library}").read
    with usage_errors(ValueError, TypeError):
        options = named_values(command.options, "options")
        for name in options:
            choose(dict(list(inspect.signature(read).parameters.items())[1:]), name, f"options: name for {library}")
    with _readable(file), usage_errors(ValueError, TypeError):
        loaded = read(file, **options)
    with usage_errors(OSError):
        files.save(path, loaded.policy, loaded.params, normalizer=loaded.normalizer, metadata=loaded.metadata)
    spec = loaded.policy.spec
    print_line(
        f"{path}: {spec.kind} with {type(spec.network).__name__}, {spaces.size(spec.observation_space)} observations, "
        f"{spaces.size(spec.action_space)} actions, {'no' if loaded.normalizer is None else 'with'} statistics"
    )
    assumed = {name: value for name, value in loaded.metadata["assumptions"].items() if name not in options}
    if assumed:
        settings = ", ".join(f"{name}={value}" for name, value in assumed.items())
        print_line(f"The file does not say, and this was assumed: {settings}. Change it with --options.")


def load(path: Path, option: str = "file") -> tuple[Path, files.Loaded]:
    """Path and content of a policy file, or of the last policy in the folder of a training."""
    file = _policy(path, option)
    with _readable(file, option):
        return file, files.load(file)


def initial(command: Any, folder: Path | None = None) -> files.Loaded | None:
    """The initial policy of a training, from the folder of a run that has kept it; None for a new policy."""
    if folder is not None and (folder / INITIAL).exists():
        return load(folder / INITIAL, "initial_policy")[1]
    path = getattr(command, "initial_policy", None)
    return None if path is None else load(path, "initial_policy")[1]


def refuse_existing(path: Path, force: bool | None) -> None:
    """Raises UsageError if a path exists; `force` replaces a file, and is None for commands that never do."""
    # A link counts as a file, even if it leads nowhere.
    if path.is_dir() or (os.path.lexists(path) and not force):
        repair = "" if path.is_dir() or force is None else ", or replace this one with --force"
        raise UsageError(f"out: {path} exists. Name another file with --out{repair}.")


def _policy(path: Path, option: str = "file") -> Path:
    """Path of a policy file; for the folder of a training, the path of its last policy."""
    if not path.is_dir() or (path / POLICY).is_file():
        return path / POLICY if path.is_dir() else path
    inside = [file.name for file in sorted(path.glob("*.safetensors"))[:20]] if os.access(path, os.R_OK) else []
    raise UsageError(
        f"{option}: expected a policy file, or the folder of a training with its {POLICY}; got the folder {path}, "
        f"which has {', '.join(inside) or 'no .safetensors file'}. Name a file."
    )


def _refuse_itself(option: str, path: Path | None, file: Path) -> None:
    """Raises UsageError if a command would write over the policy file that it reads."""
    if path and path.exists() and file.exists() and path.samefile(file):
        raise UsageError(f"{option}: expected another file than the policy, got {path}. Name a new file.")


@contextlib.contextmanager
def _readable(file: Path, option: str = "file") -> Iterator[None]:
    """Turns a read error into UsageError; the message lists the policy files beside the file."""
    try:
        yield
    except OSError as error:
        beside = file.parent if os.access(file.parent, os.R_OK) else Path()
        inside = [path.name for path in sorted(beside.glob("*.safetensors"))[:20]]
        place = beside.resolve() if beside == Path() else beside
        hint = f"{place} has {', '.join(inside)}." if inside else "Name an existing file."
        raise UsageError(f"{option}: {file} cannot be read ({error.strerror}). {hint}") from error


def refuse_import(environment: Any, file: Path) -> None:
    """Raises UsageError if a file names an environment that makes Gymnasium import a module."""
    own = isinstance(environment, str) and environment.partition(":")[0] not in envs.PACKAGES
    if not isinstance(environment, str) or (own and ":" in environment):
        raise UsageError(
            f"environment: {file} names {environment!r}, which would import a module. If you trust the module, name "
            f"the environment with --environment."
        )

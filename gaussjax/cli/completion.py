"""Completion of words by the shell: a script that shtab makes from the parsers of the commands."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

from gaussjax.cli import options
from gaussjax.cli.errors import UsageError, usage_errors
from gaussjax.core.choices import choose


def script(words: Sequence[str], parser: Callable[..., argparse.ArgumentParser]) -> str:
    """Script for the shell that the words name; `parser(command, texts)` makes the parser of a command."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UsageError("completion: expected the package shtab, got none. pip install 'gaussjax[train]'") from error
    shells = {name: name for name in ("bash", "zsh", "fish", "tcsh")}
    with usage_errors(ValueError):
        shell = choose(shells, " ".join(words), "completion")
    root = argparse.ArgumentParser("gaussjax")
    commands = root.add_subparsers()
    train = commands.add_parser("train", help="Train a policy.", add_help=False).add_subparsers()
    for name, kind in options.COMMANDS.items():
        made = parser(name, options.docstrings(kind))
        forms = {option.name: option.form for option in options.all_fields(kind)}
        for action in made._actions:
            # The form of an option that may be None is a union.
            for form in (forms[action.dest], *typing.get_args(forms[action.dest])):
                if typing.get_origin(form) is typing.Literal:
                    action.choices = typing.get_args(form)
                elif form is Path:
                    vars(action)["complete"] = shtab.FILE
        place = train if name.startswith("train ") else commands
        summary = str(made.description).partition("\n")[0]
        place.add_parser(name.split()[-1], parents=[made], help=summary, add_help=False)
    return shtab.complete(root, shell)

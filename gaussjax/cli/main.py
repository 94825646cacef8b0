"""The command `gaussjax`: its parser, its help texts, and the answer to every error in one line."""

from __future__ import annotations

import argparse
import dataclasses
import decimal
import inspect
import io
import os
import platform
import signal
import sys
import textwrap
import threading
import time
import types
import typing
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

import gaussjax
import gaussjax_command
from gaussjax.cli.errors import FAULTS, GYMNASIUM, INTERRUPTED, UsageError, own_pip, unexpected, usage_errors
from gaussjax.core.choices import choose, nearest
from gaussjax.core.text import printable
from gaussjax.envs.guard import left_threads
from gaussjax.training import parallel
from gaussjax.training.run.loop import resend_lost_interrupts

try:
    from gaussjax.cli import completion, options, policy_file, progress, record, train
except ModuleNotFoundError as missing:
    sys.exit(own_pip(f"gaussjax: the command line needs {missing.name}: pip install 'gaussjax[train]'"))

_RUN = {
    **dict.fromkeys(options.TRAIN.values(), train.train),
    options.Resume: train.resume,
    options.Evaluate: policy_file.evaluate,
    options.Record: record.record,
    options.Info: policy_file.info,
    options.Export: policy_file.export,
    options.Convert: policy_file.convert,
}
_WORDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
_HELP, _WIDTH = ("-h", "--help"), 80
_MODULES = (
    "An environment of yours has the name of its module in front, such as myrobot:Reach-v0. The module registers the "
    "environment in Gymnasium; it is imported from the working folder or from Python's usual path."
)
# Seconds that threads of an environment get to end by themselves.
_GRACE = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command `gaussjax`. Every error is one line; the exit code of a UsageError is 2."""
    code: Any = 0
    try:
        _main(arguments)
    except SystemExit as leaving:
        code = leaving.code
        raise
    finally:
        # Without arguments of a caller, the process ends with the command.
        if arguments is None and left_threads():
            threading.Thread(target=_end, args=(code,), daemon=True).start()


def _main(arguments: Sequence[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Some locales lack characters such as "…".
            stream.reconfigure(errors="backslashreplace")
    # `environment_errors` prints these warnings once, as a line.
    warnings.filterwarnings("ignore", message=GYMNASIUM.pattern)
    try:
        with progress.answer_interrupts("Interrupted: the command stops as soon as it can."), resend_lost_interrupts():
            command = parse(sys.argv[1:] if arguments is None else arguments)
            _cache_compiled_programs()
            if getattr(command, "distributed", None) is None:
                # Asynchronous dispatch hands each program to another thread, which takes longer than running the
                # small program of an environment step. Several devices, however, need these threads.
                jax.config.update("jax_cpu_enable_async_dispatch", False)
            _RUN[type(command)](command)
    except UsageError as error:
        _fail(str(error), 2)
    except FAULTS as error:
        _fail(str(error), 1)
    except KeyboardInterrupt as error:
        # Another Ctrl-C would end the exit itself with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _fail(f"interrupted: {str(error) or 'nothing was written.'}", INTERRUPTED)
    except Exception as error:
        _fail(unexpected(error), 1)


def parse(arguments: Sequence[str]) -> Any:
    """Parses the words after `gaussjax` to one of `options.COMMANDS`; prints a help text or the version, and exits."""
    words, first = list(arguments), list(dict.fromkeys(name.partition(" ")[0] for name in options.COMMANDS))
    if words[:1] and words[0] in _HELP:
        _print(_overview("", str(gaussjax.__doc__)))
    if words[:1] == ["--version"]:
        _print(f"gaussjax {gaussjax.__version__} (jax {jax.__version__}, Python {platform.python_version()})")
    if words[:1] == ["--completion"]:
        _print(completion.script(words[1:], _parser))
    name = _choose("command", first, words)
    if name == "train":
        if words[:1] and words[0] in _HELP:
            _print(_overview("train ", f"Train a policy on a Gymnasium environment. {_MODULES}"))
        name = f"train {_choose('algorithm', list(options.TRAIN), words)}"
    if not {*_HELP}.isdisjoint(words):
        _print(_parser(name, options.docstrings(options.COMMANDS[name])).format_help().rstrip())
    kind, known = options.COMMANDS[name], options.all_fields(options.COMMANDS[name])
    values = vars(_parser(name).parse_args(_checked(name, known, words)))
    values = {option: tuple(value) if isinstance(value, list) else value for option, value in values.items()}
    config = {option.name: values.pop(option.name) for option in known if option.nested and option.name in values}
    decided = [name for name in options.OF_POLICY if name in config]
    if decided and values.get("initial_policy") is not None:
        raise UsageError(
            f"{decided[0]}: expected none with initial_policy, whose file decides it, got {config[decided[0]]!r}. "
            f"Leave it out."
        )
    with usage_errors(TypeError, ValueError):
        return kind(**values, **({"config": options.CONFIGS[kind.algorithm](**config)} if config else {}))


def _choose(what: str, names: Sequence[str], words: list[str]) -> str:
    """Removes the first word, which has to be one of the names."""
    word = words.pop(0) if words else ""
    if word not in names:
        got = f"{word[:100]!r}.{nearest(word, names)}" if word else "none."
        raise UsageError(f"{what}: expected one of {', '.join(names)}, got {got} See gaussjax --help.")
    return word


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raises UsageError in place of printing the usage and exiting."""
        text = message.removeprefix("argument ")
        if text.startswith(needed := "the following arguments are required: "):
            text = f"expected {text.removeprefix(needed).replace(', ', ' and ')}, got none"
        for theirs, ours in (
            ("unrecognized arguments: ", "expected no further arguments, got "),
            ("ignored explicit argument", "expected no value, got"),
            ("expected one argument", "expected a value, got none"),
        ):
            text = text.replace(theirs, ours)
        raise UsageError(f"{text[:300]}. See {self.prog} --help.")


def _parser(name: str, texts: dict[str, str] | None = None) -> _Parser:
    """Parser of a command; `texts` are the docstrings of its fields, which only the help needs."""
    kind, texts = options.COMMANDS[name], texts or {}
    known = options.all_fields(kind)
    summary, _, examples = inspect.cleandoc(str(kind.__doc__)).partition("\n\nExamples:\n")
    needed = [option for option in known if option.default is dataclasses.MISSING]
    usage = " ".join(option.hint.argument or f"{option.word} {_metavar(option)}" for option in needed)
    usage += "".join(f"[{option.hint.argument}]" for option in known if option.hint.argument and option not in needed)
    parser = _Parser(
        prog=f"gaussjax {name}",
        usage=f"gaussjax {name} {usage}{' [OPTIONS]' if len(known) > len(needed) else ''}",
        description=textwrap.fill(summary, _WIDTH),
        epilog=f"examples:\n{textwrap.indent(textwrap.dedent(examples), '  ')}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=_WIDTH),
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    for group in dict.fromkeys(option.group for option in known):
        section = parser.add_argument_group(group)
        for option in (option for option in known if option.group == group):
            given: dict[str, Any] = {"help": _help(option, texts.get(option.name, ""))}
            if option.form is bool:
                given["action"] = argparse.BooleanOptionalAction if option.default else "store_true"
            else:
                given |= {"type": lambda word, option=option: _convert(option, word), "metavar": _metavar(option)}
            if typing.get_origin(_required(option.form)) is tuple:
                given["nargs"] = "*"
            if not option.hint.argument:
                given["required"] = option in needed
                given["dest"] = option.name
            elif option not in needed:
                given |= {"nargs": "?", "default": None}
            section.add_argument(option.name if option.hint.argument else option.word, **given)
    return parser


def _help(option: options.Option, text: str) -> str:
    """Help text of an option with its default, as the text of argparse, where % begins a format."""
    default = option.hint.default or option.default
    if default in (dataclasses.MISSING, None) or default is False:
        default = ""
    default = "on" if default is True else " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{' '.join(text.split())}{default and f' (default: {default})'}".replace("%", "%%")


def _required(form: Any) -> Any:
    """Type of a value that is not None."""
    return typing.get_args(form)[0] if typing.get_origin(form) in (types.UnionType, typing.Union) else form


def _metavar(option: options.Option) -> str:
    form = _required(option.form)
    if typing.get_origin(form) is tuple:
        form = typing.get_args(form)[0]
    if typing.get_origin(form) is typing.Literal:
        return f"{{{','.join(typing.get_args(form))}}}"
    return option.hint.argument or _WORDS[form]


def _convert(option: options.Option, word: str) -> Any:
    """Converts a word to the type of an option; raises UsageError."""
    form, word, name = _required(option.form), word.strip(), option.name.strip("_")
    if form is not option.form and word.lower() == "none":
        return None
    if typing.get_origin(form) is tuple:
        form = typing.get_args(form)[0]
    with usage_errors(ValueError):
        if not word or "\0" in word:
            raise ValueError(f"{name}: expected {_metavar(option)}, got {word!r}.")
        if typing.get_origin(form) is typing.Literal:
            return choose({one: one for one in typing.get_args(form)}, word, name)
        if form is not float:
            return form(word) if form in (str, Path) else _whole(name, word)
        try:
            return float(word)
        except ValueError:
            raise ValueError(f"{name}: expected a number, got {word[:100]!r}.") from None


def _whole(name: str, word: str) -> int:
    """Converts a text such as 64, 1e6 or 1_000_000."""
    try:
        number = decimal.Decimal(word)
        # The integer of a larger exponent could fill the memory.
        if number.is_finite() and number.adjusted() < 100 and number == number.to_integral_value():
            return int(number)
    except decimal.InvalidOperation:
        pass
    raise ValueError(f"{name}: expected a whole number, got {word[:100]!r}.")


def _checked(name: str, known: Sequence[options.Option], words: Sequence[str]) -> list[str]:
    """Prepares the words of a command for argparse; raises UsageError for an unknown option."""
    names = [option.word for option in known if not option.hint.argument]
    names += [option.word.replace("--", "--no-") for option in known if option.form is bool and option.default]
    checked = []
    for word in words:
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = option.replace("_", "-")
            if option not in names:
                raise UsageError(_unknown(name, option, names))
            checked.append(f"{option}{equals}{value}")
        elif word.startswith("-") and word != "-":
            try:
                float(word)
            except ValueError:
                raise UsageError(_unknown(name, word, names)) from None
            # argparse takes a word with a space for a value, but one such as -1e5 for an option.
            checked.append(f" {word}")
        else:
            checked.append(word)
    return checked


def _unknown(name: str, word: str, names: Sequence[str]) -> str:
    """Error text for an unknown option, with the nearest option or the commands that have it."""
    text, short = f"{word[:100]}: expected an option of {name}, got", word.lstrip("-")
    others = [other for other, kind in options.COMMANDS.items() if word in (o.word for o in options.all_fields(kind))]
    if others:
        return f"{text} one of {', '.join(others)}. See gaussjax {name} --help."
    # The nearest name to an abbreviation, such as --lr for --learning-rate, would be another one.
    whole = [f" Did you mean {one!r}?" for one in names if "".join(part[:1] for part in one[2:].split("-")) == short]
    longer = [f" Did you mean {one!r}?" for one in names if len(short) > 2 and short in one]
    near = next(filter(None, (*whole, nearest(word, names), *longer)), "")
    return f"{text} an unknown one.{near} See gaussjax {name} --help."


def _overview(start: str, text: str) -> str:
    """Help text of `gaussjax` or of `gaussjax train`: the commands in groups, and three examples."""
    what, rows, examples = "ALGORITHM" if start else "COMMAND", [], []
    for name, kind in options.COMMANDS.items():
        if name.startswith(start):
            summary, _, more = inspect.cleandoc(str(kind.__doc__)).partition("\n\nExamples:\n")
            group = "algorithms" if start else "training" if name.split()[0] in ("train", "resume") else "policies"
            rows += [*([] if f"{group}:" in rows else ["", f"{group}:"]), f"  {name.removeprefix(start):<11}{summary}"]
            examples.append(f"  {more.splitlines()[0].strip()}")
    lines = [f"usage: gaussjax {start}{what} …", *([""] if start else []), *textwrap.wrap(text, _WIDTH), *rows, ""]
    also = "" if start else " Also: --version, --completion SHELL."
    lines += [f"gaussjax {start}{what} --help lists the options.{also}", "", "examples:"]
    return "\n".join([*lines, *(examples if start else [examples[0], examples[4], examples[7]])])


def _print(text: str) -> NoReturn:
    """Prints a text and exits."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed the pipe; a flush at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)


def _cache_compiled_programs() -> None:
    """Caches compiled programs in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names another."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "gaussjax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _end(code: Any) -> None:
    """Ends the process after a grace period; Python itself would wait for threads that are no daemons."""
    time.sleep(_GRACE)
    print(
        f"gaussjax: environment: expected no running threads at the end, got {', '.join(left_threads())}. The results "
        f"are saved; end the threads in the environment's close().",
        file=sys.stderr,
        flush=True,
    )
    os._exit(code or 1)


def _fail(message: str, code: int) -> NoReturn:
    text = own_pip(f"gaussjax: {' '.join(line.strip() for line in message.splitlines())}")
    print(printable(text), file=sys.stderr, flush=True)
    if parallel.several():
        # `sys.exit` would wait for the other processes, which may be waiting for this one.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    gaussjax_command.loaded()
    main()

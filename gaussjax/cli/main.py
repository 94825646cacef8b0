"""The command line: train, resume, evaluate, and look into a policy file, export it."""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import jax

import gaussjax
from gaussjax.cli.errors import UsageError, errors_in_one_line
from gaussjax.training.parallel import processes
from gaussjax.training.run import interruption

try:
    import tyro

    from gaussjax.cli.options import TRAIN, Evaluate, Export, Info, Resume, known
    from gaussjax.cli.policy_file import evaluate, export_, info
    from gaussjax.cli.train import FAULTS, INTERRUPTED, resume, train
except ModuleNotFoundError as missing:
    sys.exit(f"gaussjax: the command line needs {missing.name}: pip install 'gaussjax[train]'")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command `gaussjax`; exits with 2 where the command cannot be carried out."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        commands = known(arguments)
        with errors_in_one_line():
            command = tyro.cli(commands, prog="gaussjax", description=gaussjax.__doc__, args=arguments)
        _cache_compiled_programs()
        if getattr(command, "distributed", None) is None:
            # A call of a small program takes less time than its hand-over to a thread: acting in Gymnasium's
            # environments makes one at every step. Several devices have to run side by side.
            jax.config.update("jax_cpu_enable_async_dispatch", False)
        run_command = {Evaluate: evaluate, Resume: resume, Info: info, Export: export_}
        run_command |= dict.fromkeys(TRAIN.values(), train)
        with interruption.heard():
            run_command[type(command)](command)
    except UsageError as error:
        _fail(str(error), 2)
    except BrokenPipeError as error:
        if not _unread():
            _end(error)
        # What is still to be written has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(1)
    except FAULTS as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if processes.lost(error):
            _fail(f"distributed: another process has ended ({str(error).splitlines()[0]})", 1)
        _end(error)


def _cache_compiled_programs() -> None:
    """Keeps compiled programs between runs, unless the environment already says where."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "gaussjax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _unread() -> bool:
    """Whether standard output is a pipe whose reader has gone, such as head."""
    watched = select.poll()
    watched.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _fail(message: str, code: int) -> NoReturn:
    print(f"gaussjax: {message}", file=sys.stderr, flush=True)
    _leave(code)


def _end(error: BaseException) -> NoReturn:
    """Lets an error that nothing foresees be seen as it is."""
    if not processes.several():
        raise error
    traceback.print_exception(error)
    _leave(1)


def _leave(code: int) -> NoReturn:
    if processes.several():
        # An orderly exit would wait for the others, who may wait for this process.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

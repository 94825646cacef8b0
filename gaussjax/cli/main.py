"""The command `gaussjax` with its subcommands train, resume, evaluate, info and export."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax

import gaussjax
from gaussjax.cli.errors import UsageError, usage_errors
from gaussjax.envs.guard import left_threads
from gaussjax.training import parallel
from gaussjax.training.run.loop import resend_lost_interrupts

try:
    import tyro

    from gaussjax.cli import options, policy_file, train
except ModuleNotFoundError as missing:
    sys.exit(f"gaussjax: the command line needs {missing.name}: pip install 'gaussjax[train]'")

_RUN = {
    **dict.fromkeys(options.TRAIN.values(), train.train),
    options.Resume: train.resume,
    options.Evaluate: policy_file.evaluate,
    options.Info: policy_file.info,
    options.Export: policy_file.export,
}


# Seconds that threads of an environment get to end by themselves.
_GRACE = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command `gaussjax`; the exit code of a UsageError is 2."""
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
    try:
        command = _parse(arguments)
        _cache_compiled_programs()
        if getattr(command, "distributed", None) is None:
            # Asynchronous dispatch hands each program to another thread, which takes longer than running the
            # small program of an environment step. Several devices, however, need these threads to run in parallel.
            jax.config.update("jax_cpu_enable_async_dispatch", False)
        with resend_lost_interrupts():
            _RUN[type(command)](command)
    except UsageError as error:
        _fail(str(error), 2)
    except train.FAULTS as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", train.INTERRUPTED)
    except Exception as error:
        if parallel.lost(error):
            _fail(f"distributed: another process has ended ({str(error).splitlines()[0]})", 1)
        if not parallel.several():
            raise
        traceback.print_exception(error)
        _exit(1)


def _parse(arguments: Sequence[str] | None) -> Any:
    """Parses the command and its options; for --help and for a wrong option, tyro prints a message and exits."""
    try:
        try:
            with usage_errors(ValueError):
                return tyro.cli(options.Command, prog="gaussjax", description=gaussjax.__doc__, args=arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed the pipe; a flush at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


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
    print(f"gaussjax: {message}", file=sys.stderr, flush=True)
    _exit(code)


def _exit(code: int) -> NoReturn:
    if parallel.several():
        # `sys.exit` would wait for the other processes, which may be waiting for this one.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()

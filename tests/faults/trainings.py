"""Runs commands of gaussjax, each in a process that may kill itself: `python -m tests.faults.trainings`.

Each line of stdin is a JSON dict, and so is each answer:

- `command`: arguments of `gaussjax`; `output`: file for what it prints; `folder`: folder of the run;
- `change`: kill -9 right before this change of the folder, counted from 1, or null;
- `seconds`: kill -9 after this time, or null.
- The answer has the `status` of the process (-9 if it was killed), and the number of `changes` if it was not.

The processes are forked, since starting Python takes longer than a short training. JAX starts after the fork.
"""

import contextlib
import json
import os
import signal
import sys
import threading

import gymnasium.envs.classic_control
import matplotlib.backends.backend_agg
import safetensors.numpy

from gaussjax.cli import main as cli

# Imported before the fork, since every training needs them.
PRELOADED = (gymnasium.envs.classic_control, matplotlib.backends.backend_agg, safetensors.numpy)
# Audit events of the calls that change a folder. The calls in `CALLS` have no such event.
EVENTS = {"open", "os.mkdir", "os.link", "os.rename", "os.remove", "os.chmod", "os.truncate", "shutil.copyfile"}
CALLS = ("fsync", "pwrite")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def count_changes(folder: str, last: int | None) -> list[int]:
    """A list of one number: the changes of the folder so far. The process is killed right before change `last`."""
    count = [0]

    def change() -> None:
        count[0] += 1
        if count[0] == last:
            die()

    def hear(event: str, arguments: tuple) -> None:
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        paths = [str(part) for part in arguments if isinstance(part, str | os.PathLike)]
        if event in EVENTS and not reads and any(folder in path for path in paths):
            change()

    def counted(call):
        def function(*arguments):
            change()
            return call(*arguments)

        return function

    sys.addaudithook(hear)
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    return count


def run(command: list[str], output: str, folder: str, change: int | None, seconds: float | None) -> None:
    """Runs a command in this process, and ends the process."""
    with open(output, "w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if seconds is not None:
        timer = threading.Timer(seconds, die)
        timer.daemon = True
        timer.start()
    count, status = count_changes(folder, change), 0
    try:
        cli.main(command)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    with open(f"{output}.changes", "w") as file:
        file.write(str(count[0]))
    sys.stdout.flush()
    sys.exit(status)


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            run(**asked)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        changes = None
        with contextlib.suppress(FileNotFoundError), open(f"{asked['output']}.changes") as file:
            changes = int(file.read())
        print(json.dumps({"status": status, "changes": changes}), flush=True)


if __name__ == "__main__":
    main()

"""Processes that save a file again and again until they are killed: `python -m tests.faults.writers FILE WIDTH`.

Each line of stdin is the first of the values that a new process writes, or "wait" to wait for the end of a process;
the answer is the process's number. The metadata of a file hold its value, so that a reader detects a torn file. The
processes are forked, since starting Python takes longer than many saves. They write NumPy arrays, since JAX cannot be
used after a fork.
"""

import itertools
import os
import sys
from pathlib import Path

import numpy as np

from gaussjax.files import container


def write(path: Path, width: int, first: int) -> None:
    values = range(first, first + 5)
    # With a width of 200, 3 MB each, so that a write takes a while.
    prepared = [{f"params/{i}": np.full((width, width), value, np.float32) for i in range(20)} for value in values]
    for value, arrays in itertools.cycle(zip(values, prepared, strict=True)):
        container.write(path, arrays, {"metadata": {"value": value}})


def main() -> None:
    path, width, children = Path(sys.argv[1]), int(sys.argv[2]), set()
    for line in sys.stdin:
        if line == "wait\n":
            child, _ = os.wait()
            children.remove(child)
        elif child := os.fork():
            children.add(child)
        else:
            write(path, width, int(line))
        print(child, flush=True)
    for child in children:
        os.kill(child, 9)


if __name__ == "__main__":
    main()

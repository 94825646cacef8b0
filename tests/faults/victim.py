"""Processes that save a file until they are killed, one for each line of stdin: `python -m tests.faults.victim FILE`.

They are forked, since starting Python takes longer than many saves. They write NumPy arrays, since JAX
cannot be used after a fork.
"""

import itertools
import os
import sys
from pathlib import Path

import numpy as np

from gaussjax.files import container

# 3 MB each, so that a write takes a while.
PREPARED = [{f"params/{i}": np.full((200, 200), value, np.float32) for i in range(20)} for value in range(3)]


def main() -> None:
    path = Path(sys.argv[1])
    for _ in sys.stdin:
        victim = os.fork()
        if victim == 0:
            for value in itertools.cycle(range(len(PREPARED))):
                container.write(path, PREPARED[value], {"metadata": {"value": value}})
        print(victim, flush=True)
        os.waitpid(victim, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()

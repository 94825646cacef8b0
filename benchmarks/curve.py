"""The process of one training: `PYTHON -m benchmarks.curve MODULE`, with the arguments of its `curve` as JSON on stdin.

A point is the number of environment steps and the returns of whole episodes with deterministic actions; the first
one is before the training. stdout gets the list of points.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from statistics import mean


def main() -> None:
    # stdout carries the result only, so a library that prints is redirected to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    arguments = json.load(sys.stdin)
    points, start = [], time.perf_counter()
    for step, returns in importlib.import_module(sys.argv[1]).curve(**arguments):
        points.append({"step": step, "returns": [round(value, 3) for value in returns]})
        seconds = time.perf_counter() - start
        print(f"{seconds:7.1f} s  step {step:>9,}  return {mean(returns):.2f}", file=sys.stderr, flush=True)
    print(json.dumps(points), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""The process of one contender: `PYTHON -m benchmarks.worker MODULE DEVICE`.

The process reads one JSON message per line on stdin and answers each on stdout:

    {"build": COMMAND, "case": {…}}  →  {"check": [numbers], "first_call": seconds}
    {"run": CALLS}                   →  {"seconds": of all calls, "processor": CPU seconds, "others": of others}
    {"memory": true}                 →  {"peak": bytes of resident memory}
    {"versions": [packages]}         →  {"versions": {…}, "hardware": name of the device}

or with {"error": text, "missing": true for a missing package}. The process ends at the end of its input.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import machine

# Seconds. After the turn of another process hand-offs between threads are slow for up to half a second (NOTES.md).
WARM_UP = 0.25


class Built(NamedTuple):
    """A case that a contender has prepared.

    Attributes:
        call: Function to measure; it blocks until its result is ready.
        check: Numbers that have to be equal for all contenders, as proof that all compute the same.
    """

    call: Callable[[], Any]
    check: Sequence[float]


def main() -> None:
    module, device = sys.argv[1:]
    # stdout carries answers only, so a library that prints is redirected to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call: Callable[[], Any] | None = None
    contender: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            contender = contender or importlib.import_module(module)
            if "build" in message:
                call = None
                gc.collect()
                built: Built = getattr(contender, message["build"])(device=device, **message["case"])
                call = built.call
                start = time.perf_counter()
                call()
                answer = {"check": [float(number) for number in built.check], "first_call": time.perf_counter() - start}
            elif "run" in message:
                answer = _timed(call, message["run"])
            elif "memory" in message:
                answer = {"peak": machine.peak_bytes()}
            else:
                answer = {"versions": _versions(message["versions"]), "hardware": contender.hardware(device)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "missing": isinstance(error, ImportError)}
        print(json.dumps(answer), file=answers, flush=True)


def _timed(call: Callable[[], Any] | None, calls: int) -> dict[str, float]:
    if call is None:
        raise ValueError("run: nothing is built")
    gc.disable()
    # The previous turn was another contender's, so the first calls are slower and not measured.
    warm = time.perf_counter() + WARM_UP
    call()
    while time.perf_counter() < warm:
        call()
    busy, ours = machine.busy_seconds(), time.process_time()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    seconds = time.perf_counter() - start
    processor = time.process_time() - ours
    others = machine.busy_seconds() - busy - processor
    gc.enable()
    return {"seconds": seconds, "processor": processor, "others": others}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()

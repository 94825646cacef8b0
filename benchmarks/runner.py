"""Runner that measures contenders in alternating turns, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.peers import CONTENDERS, Contender
from benchmarks.worker import WARM_UP

# Seconds between two turns, because the threads of the previous contender spin for a while.
_PAUSE = 0.1
_TOLERANCE = 1e-3
ROOT = Path(__file__).parent.parent


class ContenderError(Exception):
    """A contender could not be measured."""


class Worker:
    """The process of a contender, driven by lines of JSON (see `benchmarks.worker`)."""

    def __init__(self, contender: Contender, options: argparse.Namespace, root: Path = ROOT):
        self.contender = contender
        python = interpreter(contender, options.environments)
        if python is None:
            raise ContenderError(f"no environment {contender.environment}: make it with `make bench-peers`")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by stop)
        module = f"benchmarks.contenders.{contender.module}"
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.worker", module, options.device],
            cwd=root,
            env=surroundings(options.device, PYTHONPATH=str(root), **contender.variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        self._questions, self._answers = questions, answers

    def ask(self, **message: Any) -> dict[str, Any]:
        """The answer of the process to one message.

        Raises:
            ContenderError: The contender failed or its process ended.
        """
        self._questions.write(json.dumps(message) + "\n")
        self._questions.flush()
        line = self._answers.readline()
        if not line:
            self._errors.seek(0)
            raise ContenderError("its process ended: " + self._errors.read()[-300:].strip())
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(answer["error"])
        return answer

    def stop(self) -> None:
        self._questions.close()
        self._process.wait(60)
        self._answers.close()
        self._errors.close()


def interpreter(contender: Contender, environments: Path) -> Path | None:
    """The Python interpreter of the contender's environment, or None if that does not exist."""
    if contender.environment is None:
        return Path(sys.executable)
    python = environments.absolute() / contender.environment / "bin" / "python"
    return python if python.exists() else None


def surroundings(device: str, **more: str) -> dict[str, str]:
    """Environment variables that are equal for all contenders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    kept |= {"PYTHONPATH": str(ROOT), "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if device == "cpu":
        kept |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return kept | more


def measure(
    command: str, cases: Sequence[Mapping[str, Any]], names: Sequence[str], processes: Sequence[int], options: Any
) -> dict[str, Any]:
    """Times of every contender on every case.

    The processes of all contenders live at the same time and take turns, so that a change of the machine's load
    affects all of them. Each is started several times, because a process keeps a slow or a fast hand-off to its
    threads.

    Args:
        command: Name of the contenders' function.
        cases: Arguments of the function, one case each.
        names: Names of the contenders; the numbers of the others are compared with those of the first.
        processes: Number of processes per contender for each case.
        options: Options of the command line.

    Returns:
        `cases`, `contenders`, `not_measured` and `settings`, for JSON.
    """
    if options.processes:
        processes = [options.processes] * len(cases)
    times: list[dict[str, list[list[float]]]] = [{name: [] for name in names} for _ in cases]
    processor: list[dict[str, list[float]]] = [{name: [] for name in names} for _ in cases]
    firsts: list[dict[str, float]] = [{} for _ in cases]
    differences: list[dict[str, float]] = [{} for _ in cases]
    refusals: list[dict[str, str]] = [{} for _ in cases]
    versions: dict[str, Any] = {}
    missing: dict[str, str] = {}
    measured, foreign = 0.0, 0.0
    for repetition in range(max(processes)):
        workers = _started(names, missing, versions, options)
        for i, case in enumerate(cases):
            if repetition >= processes[i]:
                continue
            ready, checks = {}, {}
            for name, worker in workers.items():
                try:
                    answer = worker.ask(build=command, case={**case, **worker.contender.options})
                    ready[name] = (worker, calls_a_turn(worker, options.turn))
                except ContenderError as error:
                    refusals[i][name] = str(error)
                    continue
                checks[name] = np.asarray(answer["check"])
                firsts[i].setdefault(name, answer["first_call"])
            for name, check in checks.items():
                reference = next(iter(checks.values()))
                differences[i][name] = _difference(check, reference)
            for name, (turns, used, others) in alternating(ready, options.rounds).items():
                times[i][name].append([seconds / ready[name][1] for seconds in turns])
                processor[i][name].append(statistics.median(used) / ready[name][1])
                measured, foreign = measured + sum(turns), foreign + others
            _say(command, case, repetition, ready, times[i])
        for worker in workers.values():
            worker.stop()
    return {
        "share_of_cpu_used_by_others": machine.share(foreign, measured),
        "settings": {"rounds": options.rounds, "turn": options.turn, "warm_up": WARM_UP},
        "contenders": versions,
        "not_measured": missing,
        "cases": [
            {
                "case": dict(case),
                "processes": processes[i],
                "times": {
                    name: {
                        **summary(times[i][name], firsts[i][name]),
                        "processor": _rounded(statistics.median(processor[i][name])),
                    }
                    for name in names
                    if times[i][name]
                },
                "differences": {name: _rounded(value) for name, value in differences[i].items()},
                "refused": refusals[i],
            }
            for i, case in enumerate(cases)
        ],
    }


def summary(processes: Sequence[Sequence[float]], first_call: float) -> dict[str, Any]:
    """Statistics of the seconds per call, given by turn for each process."""
    turns = [seconds for process in processes for seconds in process]
    medians = [statistics.median(process) for process in processes]
    lower, upper = np.quantile(turns, [0.25, 0.75])
    return {
        "median": _rounded(statistics.median(medians)),
        "best": _rounded(min(medians)),
        "fastest": _rounded(min(turns)),
        "quartiles": [_rounded(lower), _rounded(upper)],
        "processes": [_rounded(median) for median in medians],
        "first_call": _rounded(first_call),
    }


def _started(
    names: Sequence[str], missing: dict[str, str], versions: dict[str, Any], options: argparse.Namespace
) -> dict[str, Worker]:
    workers = {}
    for name in names:
        if name in missing:
            continue
        try:
            worker = Worker(CONTENDERS[name], options)
        except ContenderError as error:
            missing[name] = str(error)
            continue
        try:
            versions[name] = worker.ask(versions=CONTENDERS[name].packages)
            workers[name] = worker
        except ContenderError as error:
            missing[name] = str(error)
            worker.stop()
    return workers


def calls_a_turn(worker: Worker, turn: float) -> int:
    """The number of calls in a turn of about `turn` seconds."""
    calls = 1
    while True:
        seconds = worker.ask(run=calls)["seconds"]
        if seconds > 0.2 * turn or calls >= 4096:
            return max(1, min(4096, round(calls * turn / seconds)))
        calls *= 4


def alternating(
    ready: Mapping[str, tuple[Worker, int]], rounds: int
) -> dict[str, tuple[list[float], list[float], float]]:
    """Seconds and CPU seconds of each turn, and CPU seconds of other processes in the meantime."""
    turns: dict[str, list[float]] = {name: [] for name in ready}
    used: dict[str, list[float]] = {name: [] for name in ready}
    others = dict.fromkeys(ready, 0.0)
    order = list(ready)
    for _ in range(rounds):
        for name in order:
            worker, calls = ready[name]
            time.sleep(_PAUSE)
            answer = worker.ask(run=calls)
            turns[name].append(answer["seconds"])
            used[name].append(answer.get("processor", float("nan")))
            others[name] += answer["others"]
        # Rotate the order, because a contender can slow down the next one.
        order = order[1:] + order[:1]
    return {name: (turns[name], used[name], others[name]) for name in ready}


def _difference(check: np.ndarray, reference: np.ndarray) -> float:
    difference = float(np.max(np.abs(check - reference)))
    if difference > _TOLERANCE:
        raise SystemExit(f"The contenders compute different things: they differ by {difference}.")
    return difference


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def _say(command: str, case: Mapping[str, Any], repetition: int, ready: Mapping[str, Any], times: Mapping) -> None:
    medians = " ".join(f"{name} {1e6 * statistics.median(times[name][-1]):.1f}" for name in ready)
    print(f"{command} {dict(case)} process {repetition + 1}, µs: {medians}", file=sys.stderr, flush=True)

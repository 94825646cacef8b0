"""Environment steps a second of trainings on environments of JAX packages, beside other libraries."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import runner, throughput
from benchmarks.settings import CASES

_PROCESSES = 2


def run(options: argparse.Namespace) -> dict[str, Any]:
    known = [name for name, case in CASES.items() if case.speed is not None]
    names = known if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(known)}, got {', '.join(unknown)}.")
    found = {
        name: runner.measure("training", [{"of": name}], list(CASES[name].arguments), [_PROCESSES], options)
        for name in names
    }
    busiest = max(results["share_of_cpu_used_by_others"] for results in found.values())
    return {"simulators": found, "share_of_cpu_used_by_others": busiest}


def markdown(results: dict[str, Any]) -> str:
    rows = [
        (case.title, tuple(case.arguments), case.update_steps * case.calls, case.speed, found)
        for case, found in ((CASES[name], found) for name, found in results["simulators"].items())
    ]
    text = (
        "PPO with the settings of the curves, rollouts and updates; all evaluations are off. Steps count each "
        "application of a repeated action. Both sides take turns. Where the columns of ratios disagree, the machine "
        "was too busy for a verdict; the processor time suffers least from other work."
    )
    return f"{text}\n\n{throughput.beside(rows)}"

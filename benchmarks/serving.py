"""Time of one call of `act` for few observations, with JAX running calls in the caller's thread."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = (
    *("gaussjax-inline", "gaussjax-serve", "gaussjax-load", "distrax-inline", "brax-inline"),
    *("distrax-bound", "brax-bound", "skrl-torch", "sb3"),
)
BATCHES = (1, 16, 256)
_LOG_DENSITY = ((1, "skrl-torch", 0.35), (1, "brax-inline", 1.0))
# Our contender, and its bars: batch, peer, and the largest ratio of our time to its time.
BARS = {
    "gaussjax-inline": _LOG_DENSITY,
    "gaussjax-serve": (*_LOG_DENSITY, (1, "distrax-bound", 0.85), (1, "brax-bound", 0.85)),
    "gaussjax-load": ((1, "distrax-bound", 1.0), (1, "brax-bound", 1.0)),
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{"batch": batch, "resident": False} for batch in report.sizes(options, BATCHES)]
    return runner.measure("act", cases, names, [5] * len(cases), options)


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The case of `act`, NumPy in and NumPy out, in processes with "
        '`jax.config.update("jax_cpu_enable_async_dispatch", False)`: JAX then runs a call where it is made instead '
        "of handing it to another thread. A process chooses that for itself, so every contender in JAX has it here. "
        "`gaussjax.serve` gives the actions alone, its parameters in the program, as two of the others do. The `act` "
        "of a loaded file gives all outputs of `act`, its parameters in the program; brax's policy has its own there "
        "too.",
        report.table(results, "batch"),
    ]
    if results["device"] == "cpu":
        for ours, bars in BARS.items():
            parts.append(f"{peers.CONTENDERS[ours].title}:\n\n{report.bars(results, 'batch', bars, ours=ours)}")
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"serving-{results['device']}")

"""Time of one call of `act` for few observations, with JAX running calls in the caller's thread."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax-inline", "gaussjax-serve", "distrax-inline", "brax-inline", "skrl-torch", "sb3")
BATCHES = (1, 16, 256)
BARS = ((1, "skrl-torch", 0.35), (1, "brax-inline", 1.0))


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{"batch": batch, "resident": False} for batch in report.sizes(options, BATCHES)]
    return runner.measure("act", cases, names, [5] * len(cases), options)


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The case of `act`, NumPy in and NumPy out, in processes with "
        '`jax.config.update("jax_cpu_enable_async_dispatch", False)`: JAX then runs a call where it is made instead '
        "of handing it to another thread. A process chooses that for itself, so every contender in JAX has it here. "
        "`gaussjax.serve` gives the actions alone, its parameters in the program; brax has its own there too.",
        report.table(results, "batch"),
    ]
    if results["device"] == "cpu":
        tables = [report.bars(results, "batch", BARS, ours=name) for name in CONTENDERS[:2]]
        parts += [f"{peers.CONTENDERS[name].title}:\n\n{bars}" for name, bars in zip(CONTENDERS, tables, strict=False)]
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"serving-{results['device']}")

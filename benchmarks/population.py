"""Time of one action of each of many policies, one observation each."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax", "gaussjax-loop", "torch-vmap")
ACCELERATOR = CONTENDERS
POLICIES = (1, 16, 256, 4096)
BARS = ((256, "gaussjax-loop", 0.05),)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{"policies": policies} for policies in report.sizes(options, POLICIES)]
    return runner.measure("population", cases, names, [5 if case["policies"] < 256 else 3 for case in cases], options)


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "`jax.jit(jax.vmap(policy.act))` over stacked parameters, against a Python loop of `policy.act` (what the "
        "loop reads lies ready for it) and against `torch.func.vmap` over a functional call.",
        report.table(results, "policies"),
    ]
    if results["device"] == "cpu":
        parts.append(report.bars(results, "policies", BARS))
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "policies", folder, f"population-{results['device']}")

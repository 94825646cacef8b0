"""Time of one action of each of many policies, one observation each."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner, throughput

CONTENDERS = ("gaussjax", "gaussjax-loop", "torch-vmap")
ACCELERATOR = CONTENDERS
POLICIES = (1, 16, 256, 4096)
BARS = ((256, "gaussjax-loop", 0.05),)
EVOLUTION, _EVOLVED = ("gaussjax-evolution", "evolution-by-hand"), 1024
EVOLUTION_BARS = ((0, "evolution-by-hand", 1.0),)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{"policies": policies} for policies in report.sizes(options, POLICIES)]
    processes = [5 if case["policies"] < 256 else 3 for case in cases]
    results = runner.measure("population", cases, names, processes, options)
    if options.device == "cpu":
        results["evolution"] = runner.measure("evolution", [{"policies": _EVOLVED}], EVOLUTION, [5], options)
    return results


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "`jax.jit(jax.vmap(policy.act))` over stacked parameters, against a Python loop of `policy.act` (what the "
        "loop reads lies ready for it) and against `torch.func.vmap` over a functional call.",
        report.table(results, "policies"),
    ]
    if results["device"] == "cpu":
        parts.append(report.bars(results, "policies", BARS))
    if "evolution" in results:
        heads = [f"{_EVOLVED} policies, an episode of 200 steps each"]
        parts += [
            "### Evolution strategy\n\nA generation on Pendulum-v1 in one program: noise for both signs, an episode "
            "of each policy by `jax.vmap`, ranks, and a step of Adam. The strategy is the same code on both sides; "
            "the policy and the episodes are gaussjax's, or Flax and Gymnasium's functions by hand.",
            throughput.table(
                results["evolution"], EVOLUTION, lambda case: case["policies"], heads, "episodes a second"
            ),
            throughput.bars(results["evolution"], EVOLUTION, EVOLUTION_BARS, heads, "episodes"),
        ]
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "policies", folder, f"population-{results['device']}")

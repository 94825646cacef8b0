"""Time of the gradient of PPO's loss on one minibatch."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax", "skrl-torch", "skrl-jax", "sb3", "distrax")
ACCELERATOR = ("gaussjax", "distrax", "torch")
# Samples, and processes per contender; 64 samples need more, because distrax is nearly as fast.
MINIBATCHES = {64: 15, 512: 9, 8192: 9}
BARS = (
    (64, "skrl-torch", 0.6),
    (512, "skrl-torch", 0.8),
    (8192, "skrl-torch", 0.8),
    (64, "distrax", 1.0),
    (512, "distrax", 1.0),
    (8192, "distrax", 1.0),
)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(ACCELERATOR if options.device == "cuda" else CONTENDERS, options.peers)
    cases = [{"batch": batch} for batch in report.sizes(options, list(MINIBATCHES))]
    return runner.measure("evaluate", cases, names, [MINIBATCHES.get(case["batch"], 9) for case in cases], options)


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The clipped loss with its entropy bonus, differentiated by all parameters of the policy; the minibatch "
        "stays on the device. The length of every gradient agrees with ours. brax and TorchRL offer this loss only "
        "together with a critic's, so they are not here; skrl (jax) is the compiled function of its own PPO.",
        report.table(results, "batch"),
    ]
    if results["device"] == "cpu":
        parts.append(report.bars(results, "batch", BARS))
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"evaluate-{results['device']}")

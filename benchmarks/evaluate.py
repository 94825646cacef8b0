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
    (64, "distrax", 0.92),
    (512, "distrax", 0.8),
    (8192, "distrax", 0.75),
)
# The squashed policy, beside brax's.
SQUASHED, SQUASHED_BARS = {"batch": 512, "actions": 17}, ((512, "brax", 1.0),)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(ACCELERATOR if options.device == "cuda" else CONTENDERS, options.peers)
    cases = [{"batch": batch} for batch in report.sizes(options, list(MINIBATCHES))]
    results = runner.measure("evaluate", cases, names, [MINIBATCHES.get(case["batch"], 9) for case in cases], options)
    if options.device == "cpu":
        results["squashed"] = runner.measure("squashed", [SQUASHED], ["gaussjax", "brax"], [9], options)
    return results


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The clipped loss with its entropy bonus, differentiated by all parameters of the policy; the minibatch "
        "stays on the device. The length of every gradient agrees with ours. brax and TorchRL offer this loss only "
        "together with a critic's, so they are not here; skrl (jax) is the compiled function of its own PPO.",
        report.table(results, "batch"),
    ]
    if results["device"] == "cpu":
        parts.append(report.bars(results, "batch", BARS))
    if "squashed" in results:
        parts += [
            "### Squashed, {batch} samples of {actions} actions\n\nThe standard deviation depends on the state. Our "
            "entropy is computed by quadrature ([its errors](search.md)), brax's is an estimate from one sample. "
            "The gradients without the entropy agree.".format(**SQUASHED),
            report.table(results["squashed"], "batch"),
            report.bars({**results, **results["squashed"]}, "batch", SQUASHED_BARS),
        ]
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"evaluate-{results['device']}")

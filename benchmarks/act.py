"""Time of one call of `act`, with NumPy arrays or with arrays on the device."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import inputs, peers, report, runner

CONTENDERS = ("gaussjax", "skrl-torch", "skrl-jax", "skrl-jax-agent", "sb3", "brax", "torchrl", "distrax")
BATCHES = (1, 16, 256, 4096, 65536)
# On a machine with an accelerator only contenders without an environment of their own are measured.
ACCELERATOR = ("gaussjax", "distrax", "torch")
ACCELERATOR_BATCHES = (1, 256, 4096, 65536, 2**20)
_COPIED = 2**28  # bytes

# Batch, peer (None is the fastest peer), and the largest ratio of our time to its time.
BARS = ((1, "skrl-torch", 0.35), (1, "brax", 1.0), (256, None, 0.8), (4096, None, 0.8), (65536, None, 0.7))


def run(options: argparse.Namespace) -> dict[str, Any]:
    cuda = options.device == "cuda"
    names = peers.chosen(ACCELERATOR if cuda else CONTENDERS, options.peers)
    batches = report.sizes(options, ACCELERATOR_BATCHES if cuda else BATCHES)
    cases = [{"batch": batch, "resident": resident} for resident in (False, True) for batch in batches]
    # A process keeps a fast or a slow hand-off to its threads, so each contender is started several times.
    results = runner.measure("act", cases, names, [7] * len(cases), options)
    if cuda:
        results["floors"] = _floors(batches, options)
    return results


def _floors(batches: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time to move the inputs and outputs at the measured bandwidth."""
    copied = runner.measure("copy", [{"size": _COPIED}], ["gaussjax"], [1], options)
    bandwidth = 2 * _COPIED / copied["cases"][0]["times"]["gaussjax"]["best"]
    # Inputs: observations. Outputs: actions, raw actions, mean, log_std and log_prob.
    numbers = inputs.OBSERVATIONS + 4 * inputs.ACTIONS + 1
    return [
        {"batch": n, "bandwidth": bandwidth, "bytes": 4 * n * numbers, "seconds": 4 * n * numbers / bandwidth}
        for n in batches
    ]


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The mean of each contender agrees with ours, so all compute the same policy: 60 observations, two hidden "
        "layers of 32 ELU units, 8 actions, an unclipped diagonal Gaussian with the log-density of what it drew.",
        "### NumPy in, NumPy out",
        report.table(results, "batch", where={"resident": False}),
        "### On the device",
        report.table(results, "batch", where={"resident": True}),
    ]
    if results["device"] == "cpu":
        parts.append(report.bars(results, "batch", BARS, where={"resident": False}))
    else:
        parts.append(report.floors(results))
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"act-{results['device']}", where={"resident": False})

"""Time of one call of `act`, with NumPy arrays or with arrays on the device."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import inputs, peers, report, runner
from benchmarks.report import OURS

CONTENDERS = (
    *("gaussjax", "skrl-torch", "skrl-jax", "skrl-jax-agent", "sb3", "brax", "torchrl", "distrax", "distrax-five"),
)
BATCHES = (1, 16, 256, 4096, 65536)
# On a machine with an accelerator only contenders without an environment of their own are measured.
ACCELERATOR = ("gaussjax", "distrax", "torch")
ACCELERATOR_BATCHES = (1, 256, 4096, 65536, 2**20)
_COPIED = 2**28  # bytes

# Batch, peer (None is the fastest peer), and the largest ratio of our time to its time.
BARS = (
    (1, "skrl-torch", 0.35),
    (1, "brax", 1.0),
    (1, "distrax-five", 0.6),
    (1, "distrax", 1.1),
    (16, None, 0.6),
    (256, None, 0.7),
    (4096, None, 0.75),
    (65536, None, 0.7),
)
# Our policy of another kind, its peer, and the largest ratio of its time to that of our plain policy.
KINDS = (("gaussjax-truncated", "tfp-truncated", 1.6), ("gaussjax-gsde", "sb3-gsde", 1.6))
_KINDS_BATCH = 256


def run(options: argparse.Namespace) -> dict[str, Any]:
    cuda = options.device == "cuda"
    names = peers.chosen(ACCELERATOR if cuda else CONTENDERS, options.peers)
    batches = report.sizes(options, ACCELERATOR_BATCHES if cuda else BATCHES)
    cases = [{"batch": batch, "resident": resident} for resident in (False, True) for batch in batches]
    # A process keeps a fast or a slow hand-off to its threads, so each contender is started several times.
    results = runner.measure("act", cases, names, [7] * len(cases), options)
    if cuda:
        return {**results, "floors": _floors(batches, options)}
    kinds = [name for pair in KINDS for name in pair[:2]]
    case = {"batch": _KINDS_BATCH, "resident": False}
    results["kinds"] = runner.measure("act", [case], [OURS, *kinds], [7], options)
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
    if "kinds" in results:
        parts.append(
            "### Kinds of policies\n\nNumPy in, NumPy out. A truncated policy has the log-density of its interval. "
            "With gSDE each observation has a matrix of its own, which is held: no call draws one."
        )
        parts += [part for kind in KINDS for part in _kind(results, *kind)]
    return "\n\n".join(parts)


def _kind(results: dict[str, Any], ours: str, peer: str, most: float) -> tuple[str, str]:
    """The times of a kind of policy and its bar."""
    wanted = [(_KINDS_BATCH, OURS, most)]
    bars = report.bars({**results, **results["kinds"]}, "batch", wanted, ours=ours)
    return report.table(results["kinds"], "batch", among=(ours, OURS, peer)), bars


def plots(results: dict[str, Any], folder: Any) -> str:
    return report.plot(results, "batch", folder, f"act-{results['device']}", where={"resident": False})

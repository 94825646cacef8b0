"""Steps per second of SAC on one Gymnasium environment, with one gradient step per step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks import peers, report, runner, throughput

CONTENDERS = (
    "gaussjax-training",
    "gaussjax-training-truncated",
    "gaussjax-command",
    "sb3-training",
    "sbx-training",
    "sbx-inline",
)
ENVIRONMENTS = ("HalfCheetah-v5", "Pendulum-v1")
_STEPS, _STARTS, _BATCH = 256, 256, 256
BARS = ((0, "sbx-training", 1.6), (0, "sb3-training", 3.0), (1, "sbx-training", 1.25), (1, "sb3-training", 3.0))
# The largest ratio of the time of a truncated policy to that of a squashed one.
TRUNCATED = "gaussjax-training-truncated"
TRUNCATED_BARS = tuple((environment, "gaussjax-training", 1.2) for environment in ENVIRONMENTS)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    # --sizes selects sizes of the minibatch.
    cases = [
        {"environment": environment, "num_steps": _STEPS, "batch_size": batch, "learning_starts": _STARTS}
        for environment in ENVIRONMENTS
        for batch in report.sizes(options, (_BATCH,))
    ]
    return runner.measure("sac", cases, names, [3] * len(cases), options)


def steps(case: Mapping[str, Any]) -> int:
    """Environment steps of one call."""
    return case["num_steps"]


def markdown(results: dict[str, Any]) -> str:
    heads = ["{environment}, minibatches of {batch_size}".format(**case["case"]) for case in results["cases"]]
    parts = [
        "One environment, one gradient step a step, after the random steps at the start and the first gradient steps. "
        "Two hidden layers of 256 ReLU units for the actor and for each of two critics, the temperature learnt, a "
        "buffer of a million transitions. Nobody normalises observations. As the command line does, JAX hands its "
        "calls to another thread, but where a row says otherwise. The ratios of the first table are of time.",
        throughput.table(results, CONTENDERS, steps, heads),
    ]
    if results["device"] == "cpu":
        parts.append(throughput.bars(results, CONTENDERS, BARS, heads))
        parts.append("A step with a truncated policy beside a squashed one, in time:")
        parts.append(report.bars(results, "environment", TRUNCATED_BARS, ours=TRUNCATED))
    return "\n\n".join(parts)

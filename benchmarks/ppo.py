"""Environment steps per second of PPO on Gymnasium environments, updates included."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks import peers, runner, throughput

CONTENDERS = ("gaussjax-command", "gaussjax-training", "sb3-training", "sbx-training", "sbx-inline")
CASES = (
    {"environment": "Pendulum-v1", "num_envs": 16, "num_steps": 128, "batch_size": 256, "num_epochs": 10},
    {"environment": "HalfCheetah-v5", "num_envs": 8, "num_steps": 256, "batch_size": 64, "num_epochs": 10},
)
BARS = ((0, "sbx-training", 2.0), (1, "sbx-training", 3.3), (1, "sb3-training", 4.0))


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    return runner.measure("ppo", CASES, names, [3] * len(CASES), options)


def steps(case: Mapping[str, Any]) -> int:
    """Environment steps of one call."""
    return case["num_envs"] * case["num_steps"]


def markdown(results: dict[str, Any]) -> str:
    heads = [
        "{environment}, {num_envs} environments × {num_steps} steps, minibatches of {batch_size}, "
        "{num_epochs} epochs".format(**case["case"])
        for case in results["cases"]
    ]
    short = [case["case"]["environment"] for case in results["cases"]]
    parts = [
        "Rollouts and updates together, after the first of each. Two hidden layers of 64 tanh units for the actor and "
        "as many for the critic. gaussjax normalises observations and rewards, as its defaults are; the others, by "
        "theirs, do not. As the command line does, and where a row says 'inline', JAX runs a call where it is made "
        "instead of handing it to another thread. The ratios of the first table are of time.",
        throughput.table(results, CONTENDERS, steps, heads),
    ]
    if results["device"] == "cpu":
        parts.append(throughput.bars(results, CONTENDERS, BARS, short))
    return "\n\n".join(parts)

"""Training by PPO on Gymnasium's environments: environment steps a second, the updates among them."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax-training", "sb3-training", "sbx-training")
CASES = (
    {"environment": "Pendulum-v1", "num_envs": 16, "num_steps": 128, "batch_size": 256, "num_epochs": 10},
    {"environment": "HalfCheetah-v5", "num_envs": 8, "num_steps": 256, "batch_size": 64, "num_epochs": 10},
)


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    return runner.measure("ppo", CASES, names, [3] * len(CASES), options)


def markdown(results: dict[str, Any]) -> str:
    heads, rows = ["environment steps a second"], []
    for case in results["cases"]:
        chosen = case["case"]
        sizes = f"{chosen['num_envs']} environments × {chosen['num_steps']} steps"
        heads.append(
            f"{chosen['environment']}, {sizes}, minibatches of {chosen['batch_size']}, {chosen['num_epochs']} epochs"
        )
    for name in CONTENDERS:
        cells = []
        for case in results["cases"]:
            steps = case["case"]["num_envs"] * case["case"]["num_steps"]
            times, ours = case["times"].get(name), case["times"].get(CONTENDERS[0])
            if times is None:
                cells.append("failed" if name in case["refused"] else "not measured")
                continue
            slowest, fastest = (steps / quartile for quartile in reversed(times["quartiles"]))
            ratio = "" if name == CONTENDERS[0] or not ours else f"**{ours['median'] / times['median']:.2f}×** "
            cells.append(f"{ratio}{steps / times['median']:,.0f} ({slowest:,.0f}–{fastest:,.0f})")
        rows.append([peers.CONTENDERS[name].title, *cells])
    parts = [
        "Rollouts and updates together, after the first of each. Two hidden layers of 64 tanh units for the actor and "
        "as many for the critic. gaussjax normalises observations and rewards, as its defaults are; the others, by "
        "theirs, do not. Ratios are of time here too.",
        report.grid(heads, rows),
    ]
    if results["not_measured"]:
        missing = {peers.CONTENDERS[name].title: why for name, why in results["not_measured"].items()}
        parts.append(report.not_measured(missing))
    return "\n\n".join(parts)

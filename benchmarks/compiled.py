"""Speed and compile time of PPO on a Pendulum written in JAX, rollouts and updates in one compiled program."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner, throughput

CONTENDERS = ("gaussjax-training", "rejax")
# The environment of rejax has JAX for the CPU.
ACCELERATOR = CONTENDERS[:1]
_UPDATES = 4
CASES = (
    {"num_envs": 64, "num_steps": 64, "num_minibatches": 8, "num_epochs": 10, "updates": _UPDATES},
    {"num_envs": 512, "num_steps": 32, "num_minibatches": 16, "num_epochs": 4, "updates": _UPDATES},
)
SPEED_BAR, COMPILE_BAR = 1.7, 1.0
# A compilation takes seconds and varies by a tenth between processes.
_COMPILE_ROUNDS, _COMPILE_PROCESSES = 3, 4


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(ACCELERATOR if options.device == "cuda" else CONTENDERS, options.peers)
    # --sizes selects numbers of environments.
    asked = report.sizes(options, [case["num_envs"] for case in CASES])
    cases = [{**CASES[min(number, len(CASES) - 1)], "num_envs": size} for number, size in enumerate(asked)]
    fewer = argparse.Namespace(**{**vars(options), "rounds": min(options.rounds, _COMPILE_ROUNDS)})
    results = {
        "speed": runner.measure("compiled", cases, names, [3] * len(cases), options),
        "compilation": runner.measure("compiling", cases, names, [_COMPILE_PROCESSES] * len(cases), fewer),
    }
    shares = [part["share_of_cpu_used_by_others"] for part in results.values()]
    return {**results, "share_of_cpu_used_by_others": max(shares)}


def markdown(results: dict[str, Any]) -> str:
    speed, compilation = results["speed"], results["compilation"]
    heads = [
        "{num_envs} environments × {num_steps} steps, {num_minibatches} minibatches, {num_epochs} epochs".format(
            **case["case"]
        )
        for case in speed["cases"]
    ]
    short = ["{num_envs} × {num_steps}".format(**case["case"]) for case in speed["cases"]]
    parts = [
        f"A call is {_UPDATES} updates with their rollouts. Two hidden layers of 64 tanh units for the actor and as "
        "many for the critic; nobody normalises observations or rewards. Our Pendulum is Gymnasium's, rejax's is "
        "gymnax's: the same equations. Our metrics are computed and kept, rejax has none. The ratios of this table "
        "are of time.",
        throughput.table(
            speed,
            CONTENDERS,
            lambda case: case["num_envs"] * case["num_steps"] * case["updates"],
            heads,
        ),
        "### Compilation\n\nTracing and compiling, in a process that has compiled before: the program that begins a "
        "training, and that of the updates.",
        _compilation(compilation, heads),
    ]
    if results["device"] == "cpu":
        wanted = [(number, CONTENDERS[1], SPEED_BAR) for number, _ in enumerate(short)]
        measured = {**speed, "share_of_cpu_used_by_others": results["share_of_cpu_used_by_others"]}
        parts += [throughput.bars(measured, CONTENDERS, wanted, short), _compile_bars(results, short)]
    return "\n\n".join(parts)


def _compilation(results: dict[str, Any], heads: list[str]) -> str:
    rows = throughput.rows(
        results, CONTENDERS, lambda case, times: f"{times['median']:.2f} ({report.spread(times, 1)})"
    )
    return report.grid(["seconds", *heads], rows)


def _compile_bars(results: dict[str, Any], heads: list[str]) -> str:
    rows = []
    for head, case in zip(heads, results["compilation"]["cases"], strict=True):
        ours, theirs = (case["times"].get(name) for name in CONTENDERS)
        title = f"{head}: {peers.CONTENDERS[CONTENDERS[1]].title}"
        if ours is None or theirs is None:
            rows.append([title, f"{COMPILE_BAR}×", "not measured", ""])
            continue
        reached = ours["median"] / theirs["median"]
        rows.append([title, f"{COMPILE_BAR}×", f"{reached:.2f}×", report.verdict(reached <= COMPILE_BAR, results)])
    return report.grid(["bar, our compile time ÷ theirs", "at most", "reached", ""], rows)

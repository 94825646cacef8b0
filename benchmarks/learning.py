"""Trainings with the command line, and the returns of the trained policies.

A training takes from minutes to a quarter of an hour. Each writes its result to `.learning/`. A training whose
result exists with the same arguments is skipped, so an interrupted command can be repeated.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine, report
from benchmarks.hidden_velocity import NAME

EPISODES, POINTS = 20, 100
# With more seeds the legend would cover the curves.
_NAMED = 5
HIDDEN = f"benchmarks.hidden_velocity:{NAME}"
MILLION = (
    *("--total-steps", "1000000", "--num-envs", "8", "--num-steps", "256", "--batch-size", "64"),
    *("--learning-rate", "3e-4"),
)
_CALM = ("--initial-log-std", "-0.5")
_MEMORY = ("--network", "gru", "--total-steps", "500000")


class Case(NamedTuple):
    """A training, one row of the table.

    Attributes:
        title: Name in the table.
        environment: Gymnasium name of the environment.
        algorithm: Subcommand of `gaussjax train`.
        arguments: Options of the subcommand.
        seeds: Seeds, with one training each.
        least: Bar for the mean return over all seeds' episodes, or None for a baseline without a bar.
        seconds: Bar for the seconds of a training, or None.
    """

    title: str
    environment: str
    algorithm: str
    arguments: tuple[str, ...]
    seeds: tuple[int, ...]
    least: float | None
    seconds: float | None = None


CASES = {
    "pendulum-ppo": Case("PPO", "Pendulum-v1", "ppo", (), (0, 1, 2), -200.0, 20.0),
    "pendulum-sac": Case(
        "SAC",
        "Pendulum-v1",
        "sac",
        ("--total-steps", "12000", "--learning-starts", "500"),
        (0, 1, 2),
        -200.0,
        60.0,
    ),
    "hidden-mlp": Case("PPO", HIDDEN, "ppo", ("--total-steps", "500000"), (0, 1, 2), None),
    "hidden-gru": Case("PPO, GRU", HIDDEN, "ppo", _MEMORY, (0, 1, 2), -300.0),
    "halfcheetah-ppo": Case("PPO", "HalfCheetah-v5", "ppo", (*MILLION, *_CALM), (0, 1, 2), 3000.0),
    # Some seeds only learn to stand, so three seeds say little about the mean. The default initial log_std was
    # chosen with four other seeds (`NOTES.md`).
    "hopper-ppo": Case("PPO", "Hopper-v5", "ppo", MILLION, tuple(range(10)), 2400.0),
    "walker2d-ppo": Case("PPO", "Walker2d-v5", "ppo", (*MILLION, *_CALM), (0, 1, 2), 2500.0),
    "halfcheetah-sac": Case(
        "SAC",
        "HalfCheetah-v5",
        "sac",
        ("--total-steps", "200000", "--checkpoint-every", "0"),
        (0,),
        4500.0,
    ),
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = list(CASES) if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(CASES)}, got {', '.join(unknown)}.")
    found = {name: [result(name, CASES[name], seed) for seed in CASES[name].seeds] for name in names}
    runs = [run for each in found.values() for run in each]
    timed = [run for name, each in found.items() if CASES[name].seconds is not None for run in each]
    return {
        "learning": found,
        # The load matters only for trainings with a bar on their time.
        "seconds": round(sum(run["command_seconds"] for run in runs)),
        "share_of_cpu_used_by_others": max((run["share_of_cpu_used_by_others"] for run in timed), default=0.0),
    }


def result(name: str, case: Case, seed: int) -> dict[str, Any]:
    """Result of a training, which is begun unless the folder `.learning` has it."""
    folder = Path(".learning") / f"{name}-seed{seed}"
    asked = {
        "environment": case.environment,
        "algorithm": case.algorithm,
        "arguments": list(case.arguments),
        "seed": seed,
    }
    path = folder.with_suffix(".json")
    if path.exists():
        found = json.loads(path.read_text())
        if {key: found[key] for key in asked} == asked:
            return found
    if folder.exists():
        raise SystemExit(f"{folder}: an unfinished training. Remove the folder to train anew.")
    watch, start = machine.Watch(), time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "gaussjax.cli.main",
        "train",
        case.algorithm,
        case.environment,
        "--seed",
        str(seed),
    ]
    command += [*case.arguments, "--out", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    outcome = {
        **asked,
        "command_seconds": time.perf_counter() - start,
        **watch.stop(),
        "revision": machine.describe()["revision"],
        **_outcome(folder, case, seed),
    }
    path.write_text(json.dumps(outcome))
    return outcome


def _outcome(folder: Path, case: Case, seed: int) -> dict[str, Any]:
    """Learning curve, time, and returns of the same episodes as in the command's own final evaluation.

    The smoothness is that of the same deterministic actions, and of actions sampled with the noise of the training.
    """
    from gaussjax import files, rollout
    from gaussjax.cli import main as command_line
    from gaussjax.cli import options as commands
    from gaussjax.training.algorithm import exploration_for

    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps = [0.0, *(row["step"] for row in rows)]
    seconds = sum((steps[i + 1] - steps[i]) / row["steps_per_second"] for i, row in enumerate(rows))
    curve = [(row["step"], row["episode_return"]) for row in rows if math.isfinite(row["episode_return"])]
    loaded = files.load(folder / "policy.safetensors")
    config = command_line.parse(["train", case.algorithm, case.environment, *case.arguments]).config
    arguments = loaded.policy, loaded.params, case.environment
    options = {"normalizer": loaded.normalizer, "episodes": EPISODES, "seed": seed + commands.EVALUATION_SEED}
    episodes = rollout.evaluate(*arguments, **options)
    source = exploration_for(config, loaded.policy, None)
    sampled = rollout.evaluate(*arguments, **options, deterministic=False, exploration=source)
    kept = curve[:: max(1, len(curve) // POINTS)]
    return {
        "steps": int(steps[-1]),
        "training_seconds": seconds,
        "curve": kept,
        "returns": episodes.returns,
        "smoothness": episodes.smoothness,
        "sampled_returns": sampled.returns,
        "sampled_smoothness": sampled.smoothness,
    }


def markdown(results: dict[str, Any]) -> str:
    heads = [
        "",
        "environment steps",
        f"mean return of {EPISODES} episodes, by seed",
        "over all",
        "bar",
        "training, s",
        "revision",
    ]
    rows = []
    for name, runs in results["learning"].items():
        case = CASES[name]
        means = [sum(run["returns"]) / len(run["returns"]) for run in runs]
        mean, slowest = sum(means) / len(means), max(run["training_seconds"] for run in runs)
        rows.append(
            [
                f"{case.title}, {case.environment.partition(':')[2] or case.environment}",
                f"{runs[0]['steps']:,}",
                ", ".join(f"{value:.0f}" for value in means),
                f"{mean:.0f}",
                _bar(case, mean, slowest, runs),
                f"{min(run['training_seconds'] for run in runs):.0f}–{slowest:.0f}",
                ", ".join(sorted({run["revision"] for run in runs})),
            ]
        )
    arguments = "\n".join(
        f"- {CASES[name].title}, {CASES[name].environment}: "
        + (f"`{' '.join(CASES[name].arguments)}`" if CASES[name].arguments else "the defaults")
        for name in results["learning"]
    )
    return "\n\n".join(
        [
            "`gaussjax train`, then deterministic actions in episodes that the training never saw. Long trainings ran "
            "beside other work: their seconds are no measurement of speed. The last column says at which revision.",
            report.grid(heads, rows),
            f"The arguments:\n\n{arguments}",
        ]
    )


def _bar(case: Case, mean: float, slowest: float, runs: list[dict[str, Any]]) -> str:
    if case.least is None:
        return "none"
    verdicts = [f"≥ {case.least:.0f} {'kept' if mean >= case.least else '**missed**'}"]
    if case.seconds is not None:
        verdicts.append(f"≤ {case.seconds:.0f} s " + _in_time(slowest <= case.seconds, runs))
    return ", ".join(verdicts)


def _in_time(kept: bool, runs: list[dict[str, Any]]) -> str:
    # A time below the bar on a busy machine is also below it on a quiet one.
    busiest = max(run["share_of_cpu_used_by_others"] for run in runs)
    return "kept" if kept else report.verdict(False, {"share_of_cpu_used_by_others": busiest})


def plots(results: dict[str, Any], folder: Path) -> str:
    """Plot one panel per case with one line per seed."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "gaussjax"
    cases = results["learning"]
    columns = 2
    count = math.ceil(len(cases) / columns)
    figure = Figure(figsize=(10.0, 3.0 * count), layout="constrained")
    for axes, (name, runs) in zip(figure.subplots(count, columns, squeeze=False).flat, cases.items(), strict=False):
        case = CASES[name]
        for run in runs:
            steps, returns = zip(*run["curve"], strict=True)
            axes.plot(steps, returns, linewidth=1.2 if len(runs) <= _NAMED else 0.8, label=f"seed {run['seed']}")
        if case.least is not None:
            axes.axhline(case.least, color="grey", linestyle="--", linewidth=1.0)
        axes.set_title(f"{case.title}, {case.environment.partition(':')[2] or case.environment}")
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return of training episodes")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        if len(runs) <= _NAMED:
            axes.legend(fontsize=8)
    for axes in figure.axes[len(cases) :]:
        axes.set_visible(False)
    name = f"learning-{results['device']}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    return f"![Return over environment steps]({name})"

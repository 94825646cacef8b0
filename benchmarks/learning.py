"""Trainings with the command line, and the returns of the trained policies.

A training takes from minutes to an hour. Each writes its result to `.learning/`. A training whose
result exists with the same arguments is skipped, so an interrupted command can be repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import history, machine, report, runner, settings
from benchmarks.hidden_velocity import NAME
from benchmarks.outcome import EPISODES as EPISODES
from benchmarks.outcome import POINTS as POINTS
from benchmarks.peers import CONTENDERS

# With more seeds the legend would cover the curves.
_NAMED = 5
HIDDEN = f"benchmarks.hidden_velocity:{NAME}"
_CALM = ("--initial-log-std", "-0.5")
_TEN = tuple(range(10))
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
        peer: The contender whose Python environment has the package of `environment`; None for our own.
    """

    title: str
    environment: str
    algorithm: str
    arguments: tuple[str, ...]
    seeds: tuple[int, ...]
    least: float | None
    seconds: float | None = None
    peer: str | None = None


def _like_curves(of: str, contender: str) -> Case:
    """The training of `benchmarks.curves` by the command, which scales rewards by itself or not at all."""
    title, found = settings.CASES[of].title.partition(",")[0], settings.arguments(of, contender)
    options = {name: value for name, value in found["options"].items() if name != "reward_scaling"}
    config = {name: value for name, value in found["config"].items() if name != "normalize_rewards"}
    arguments = ["--environment-options", *(f"{name}={value}" for name, value in options.items())] if options else []
    for name, value in config.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{option}" if value else f"--no-{option}")
        else:
            arguments += [f"--{option}", *map(str, value if isinstance(value, tuple) else (value,))]
    algorithm = found.get("algorithm", "ppo")
    return Case(title, found["environment"], algorithm, tuple(arguments), (0, 1, 2), None, peer=contender)


def _million(num_envs: int, num_steps: int) -> tuple[str, ...]:
    """Options of PPO for a million steps, with 2048 in an update."""
    return (
        *("--total-steps", "1000000", "--num-envs", str(num_envs), "--num-steps", str(num_steps)),
        *("--batch-size", "64", "--learning-rate", "3e-4"),
    )


MILLION = _million(8, 256)
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
    "halfcheetah-ppo": Case("PPO", "HalfCheetah-v5", "ppo", (*_million(64, 32), *_CALM), _TEN, 5000.0),
    # Some seeds only learn to stand, so three seeds say little about the mean. The default initial log_std was
    # chosen with four other seeds (`NOTES.md`).
    "hopper-ppo": Case("PPO", "Hopper-v5", "ppo", MILLION, _TEN, 3000.0),
    "walker2d-ppo": Case("PPO", "Walker2d-v5", "ppo", (*MILLION, *_CALM), _TEN, 3500.0),
    # With ten epochs the standard deviation falls below 0.1, and the policy hardly changes any more (`NOTES.md`).
    "ant-ppo": Case("PPO", "Ant-v5", "ppo", (*MILLION, "--num-epochs", "4", "--initial-log-std", "-1.0"), _TEN, 2500.0),
    **{
        f"package-{name}": _like_curves(name, contender)
        for name, contender in {
            "reacher": "gaussjax-playground",
            "halfcheetah": "gaussjax-playground",
            "cartpole": "gaussjax-playground",
            "privileged": "gaussjax-playground",
            "pendulum": "gaussjax-gymnax",
            "reacher-sac": "gaussjax-playground",
        }.items()
    },
    "halfcheetah-sac": Case(
        "SAC",
        "HalfCheetah-v5",
        "sac",
        ("--total-steps", "300000", "--checkpoint-every", "0", "--learning-rate", "1e-3"),
        (0, 1, 2),
        8000.0,
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
    python = Path(sys.executable)
    if case.peer is not None:
        python = runner.interpreter(CONTENDERS[case.peer], Path(".peers"))
        if python is None:
            raise SystemExit(
                f"{name}: no environment {CONTENDERS[case.peer].environment}: make it with `make bench-peers`"
            )
    watch, start = machine.Watch(), time.perf_counter()
    command = [
        str(python),
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
    # An environment of another library needs its interpreter here too.
    measure = [str(python), "-m", "benchmarks.outcome", str(folder), case.algorithm, case.environment, str(seed)]
    measure += case.arguments
    outcome = {
        **asked,
        "command_seconds": time.perf_counter() - start,
        **watch.stop(),
        "revision": machine.describe()["revision"],
        **json.loads(subprocess.run(measure, check=True, stdout=subprocess.PIPE, text=True).stdout),
    }
    path.write_text(json.dumps(outcome))
    return outcome


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
                f"{case.title}, {short(case)}",
                f"{runs[0]['steps']:,}",
                ", ".join(f"{value:.0f}" for value in means),
                f"{mean:.0f}",
                _bar(case, mean, slowest, runs),
                f"{min(run['training_seconds'] for run in runs):.0f}–{slowest:.0f}",
                ", ".join(map(_dated, sorted({run["revision"] for run in runs}))),
            ]
        )
    arguments = "\n".join(
        f"- {CASES[name].title}, {CASES[name].environment}: "
        + (f"`{' '.join(runs[0]['arguments'])}`" if runs[0]["arguments"] else "the defaults")
        for name, runs in results["learning"].items()
    )
    return "\n\n".join(
        [
            "`gaussjax train`, then deterministic actions in episodes that the training never saw. Long trainings ran "
            "beside other work: their seconds are no measurement of speed. The last column has the revision, and what "
            "has changed the package since.",
            report.grid(heads, rows),
            f"The arguments:\n\n{arguments}",
        ]
    )


def _dated(revision: str) -> str:
    change = history.since(revision)
    return f"{revision} ({history.count(change)})" if change and change.files else revision


def short(case: Case) -> str:
    """The name of the environment, without the module that registers it."""
    return case.environment.partition(":")[2] if case.environment == HIDDEN else case.environment


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
        axes.set_title(f"{case.title}, {short(case)}")
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

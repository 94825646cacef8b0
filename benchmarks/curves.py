"""Learning curves on environments of JAX packages, beside the trainings of other libraries.

A training takes minutes. Each writes its result to `.learning/`, and one whose result exists with the same settings
is skipped, so an interrupted command can be repeated. The cases and all settings are in `benchmarks.settings`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import machine, report, runner
from benchmarks.peers import CONTENDERS
from benchmarks.settings import CASES

_COLUMNS = 2


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = list(CASES) if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(CASES)}, got {', '.join(unknown)}.")
    found = {name: {contender: [] for contender in CASES[name].arguments} for name in names}
    absent: dict[tuple[str, str], list[int]] = {}
    # All trainings of a seed before the next seed: an interrupted command has something of each case.
    seeds = range(max(CASES[name].seeds for name in names))
    for seed, name in itertools.product(seeds, names):
        for contender in CASES[name].arguments if seed < CASES[name].seeds else ():
            try:
                found[name][contender].append(_result(name, contender, seed, options))
            except runner.ContenderError as error:
                absent.setdefault((f"{CASES[name].title}, {CONTENDERS[contender].title}", str(error)), []).append(seed)
    found = {name: {who: runs for who, runs in contenders.items() if runs} for name, contenders in found.items()}
    missing = {f"{title}, seeds {', '.join(map(str, seeds))}": why for (title, why), seeds in absent.items()}
    return {"curves": found, "not_measured": missing, "share_of_cpu_used_by_others": None}


def _result(name: str, contender: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    case = CASES[name]
    sizes = {"updates": case.updates, "update_steps": case.update_steps, "episodes": case.episodes, "seed": seed}
    asked = json.loads(json.dumps({"settings": case.arguments[contender], **sizes}))
    path = Path(".learning") / f"curve-{name}-{contender}-seed{seed}.json"
    if path.exists():
        found = json.loads(path.read_text())
        if {key: found.get(key) for key in asked} == asked:
            return found
    if options.kept:
        raise runner.ContenderError("not trained yet")
    peer = CONTENDERS[contender]
    python = runner.interpreter(peer, options.environments)
    if python is None:
        raise runner.ContenderError(f"no environment {peer.environment}: make it with `make bench-peers`")
    process = subprocess.run(
        [str(python), "-m", "benchmarks.curve", f"benchmarks.contenders.{peer.module}"],
        input=json.dumps({"of": name, "contender": contender, "seed": seed}),
        cwd=runner.ROOT,
        # Time does not count here, so another seed may take the compiled programs of the first.
        env=runner.surroundings(options.device, JAX_COMPILATION_CACHE_DIR=str(runner.ROOT / ".jax_cache")),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise runner.ContenderError(f"its process ended with exit status {process.returncode}")
    result = {**asked, "curve": json.loads(process.stdout), "revision": machine.describe()["revision"]}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result))
    return result


def curve(runs: list[dict[str, Any]]) -> tuple[list[int], list[list[float]]]:
    """The steps of the points, and the mean return at each of them for every seed."""
    steps = [point["step"] for point in runs[0]["curve"]]
    return steps, [[mean(point["returns"]) for point in run["curve"]] for run in runs]


def final(runs: list[dict[str, Any]]) -> float:
    """The mean return over seeds at the end of the training."""
    return mean(row[-1] for row in curve(runs)[1])


def later(runs: list[dict[str, Any]]) -> float:
    """The mean return over seeds and over the points of the second half of the training."""
    steps, returns = curve(runs)
    kept = [i for i, step in enumerate(steps) if 2 * step >= steps[-1]]
    return mean(row[i] for row in returns for i in kept)


def markdown(results: dict[str, Any]) -> str:
    rows, verdicts = [], []
    for name, contenders in results["curves"].items():
        for number, (contender, runs) in enumerate(contenders.items()):
            steps, returns = curve(runs)
            finals = [row[-1] for row in returns]
            rows.append(
                [
                    CASES[name].title if number == 0 else "",
                    CONTENDERS[contender].title,
                    f"{steps[-1]:,}",
                    ", ".join(f"{value:.0f}" for value in finals),
                    f"{mean(finals):.0f}",
                    f"{later(runs):.0f}",
                ]
            )
        ours, *others = CASES[name].arguments
        for contender in others:
            sides = [contenders.get(who, []) for who in (ours, contender)]
            seeds = set.intersection(*({run["seed"] for run in side} for side in sides))
            sides = [[run for run in side if run["seed"] in seeds] for side in sides]
            if seeds:
                pairs = zip(*((final(side), later(side)) for side in sides), strict=True)
                verdicts.append(
                    [
                        f"{CASES[name].title}: {CONTENDERS[contender].title}",
                        f"{len(seeds)}",
                        *(f"{a:.0f} ≥ {b:.0f} {'kept' if a >= b else '**missed**'}" for a, b in pairs),
                    ]
                )
    heads = ["", "", "environment steps", "return at the end, by seed", "over all", "in the second half"]
    parts = [
        f"Returns of whole episodes with deterministic actions; the means of {min(c.episodes for c in CASES.values())} "
        "episodes or more for each seed and point. Steps count each application of a repeated action. The settings of "
        "both sides are in `benchmarks/settings.py`, and the numbers in `curves-cpu.json`.",
        report.grid(heads, rows),
        report.grid(["bar: ours and theirs at equal steps", "seeds", "at the end", "in the second half"], verdicts),
    ]
    if results["not_measured"]:
        parts.append(report.not_measured(results["not_measured"]))
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Path) -> str:
    """One panel a case: thin lines for the seeds, a thick one for their mean."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "gaussjax"
    cases = {name: contenders for name, contenders in results["curves"].items() if contenders}
    count = -(-len(cases) // _COLUMNS)
    figure = Figure(figsize=(10.0, 3.0 * count), layout="constrained")
    panels = figure.subplots(count, _COLUMNS, squeeze=False).flat
    for axes, (name, contenders) in zip(panels, cases.items(), strict=False):
        for number, (contender, runs) in enumerate(contenders.items()):
            steps, returns = curve(runs)
            color = f"C{number}"
            for row in returns:
                axes.plot(steps, row, color=color, linewidth=0.7, alpha=0.5)
            means = [mean(column) for column in zip(*returns, strict=True)]
            axes.plot(steps, means, color=color, linewidth=2.0, label=CONTENDERS[contender].title)
        # An untrained policy may do so badly that a panel would show nothing else.
        curves = [row for runs in contenders.values() for row in curve(runs)[1]]
        low, high = (pick(value for row in curves for value in row[1:]) for pick in (min, max))
        if min(row[0] for row in curves) < 2.0 * low - high:
            axes.set_ylim(low - 0.5 * (high - low), high + 0.1 * (high - low))
        axes.set_title(CASES[name].title, fontsize=10)
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return, deterministic")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="best")
    for axes in figure.axes[len(cases) :]:
        axes.set_visible(False)
    name = f"curves-{results['device']}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    return f"![Return over environment steps]({name})"

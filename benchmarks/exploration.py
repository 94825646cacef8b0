"""Trainings with each kind of noise and of policy: the returns, and the smoothness of the trained policy's actions.

A training takes from a minute to an hour. Each writes its result to `.learning/`, and a training whose result exists
with the same arguments is skipped, so an interrupted command can be repeated. `--sizes` names some of the rows.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import report
from benchmarks.learning import EPISODES, MILLION, POINTS, Case, result

# Bars for gSDE beside white noise: most of the change per step of sampled actions, and least of the return.
_CHANGE, _RETURN = 0.5, 0.9
_GSDE = ("--std", "gsde", "--hold", "8")
_TRUNCATED = ("--policy", "truncated_gaussian")
_KINDS = {
    "sac": {
        "white": ("squashed, white noise", ()),
        "colored": ("squashed, pink noise", ("--exploration", "colored", "--beta", "1")),
        "gsde": ("squashed, gSDE held for 8 steps", _GSDE),
        "truncated": ("truncated, white noise", _TRUNCATED),
    },
    "ppo": {
        "white": ("Gaussian, white noise", ()),
        "gsde": ("Gaussian, gSDE held for 8 steps", _GSDE),
        "truncated": ("truncated, white noise", _TRUNCATED),
    },
}
_TASKS = {
    "sac-pendulum": ("Pendulum-v1", "sac", ("--total-steps", "12000", "--learning-starts", "500"), range(5)),
    "sac-halfcheetah": ("HalfCheetah-v5", "sac", ("--total-steps", "100000", "--checkpoint-every", "0"), range(3)),
    "ppo-pendulum": ("Pendulum-v1", "ppo", (), range(5)),
    "ppo-hopper": ("Hopper-v5", "ppo", MILLION, range(5)),
}
CASES = {
    f"{task}-{kind}": Case(title, environment, algorithm, (*arguments, *more), tuple(seeds), None)
    for task, (environment, algorithm, arguments, seeds) in _TASKS.items()
    for kind, (title, more) in _KINDS[algorithm].items()
}


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = list(CASES) if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(CASES)}, got {', '.join(unknown)}.")
    found: dict[str, list[Any]] = {name: [] for name in names}
    # All trainings of a seed before the next seed: an interrupted command has something of each row.
    for seed, name in itertools.product(range(5), names):
        case = CASES[name]
        done = Path(".learning") / f"exploration-{name}-seed{seed}.json"
        if seed in case.seeds and (done.exists() or not options.kept):
            found[name].append(result(f"exploration-{name}", case, seed))
    return {"exploration": found, "share_of_cpu_used_by_others": None}


def markdown(results: dict[str, Any]) -> str:
    heads = ["", "seeds", "return, by seed", "over all", "change per step", "the same, sampled", "fast share, sampled"]
    rows, bars = [], []
    for task, (environment, algorithm, _, seeds) in _TASKS.items():
        found = {kind: results["exploration"].get(f"{task}-{kind}", []) for kind in _KINDS[algorithm]}
        for kind, runs in found.items():
            if runs:
                title = CASES[f"{task}-{kind}"].title
                returns = [mean(run["returns"]) for run in runs]
                change, sampled, fast = (
                    mean(run[of][place] for run in runs)
                    for of, place in (("smoothness", 0), ("sampled_smoothness", 0), ("sampled_smoothness", 2))
                )
                rows.append(
                    [
                        f"{algorithm.upper()}, {environment}: {title}",
                        f"{len(runs)} of {len(seeds)}",
                        ", ".join(f"{value:.0f}" for value in returns),
                        f"{mean(returns):.0f}",
                        f"{change:.3g}",
                        f"{sampled:.3g}",
                        f"{fast:.1%}",
                    ]
                )
        if found["white"] and found["gsde"]:
            bars.append([f"{algorithm.upper()}, {environment}", *_bars(found["white"], found["gsde"])])
    parts = [
        f"`gaussjax train`, then {EPISODES} episodes that the training never saw, with deterministic actions for the "
        "returns. The change is the mean absolute change of an action component per step, for deterministic actions "
        "and for actions sampled with the noise of the training. The fast share is the share of their variance at "
        "periods below 4 steps.",
        report.grid(heads, rows),
    ]
    if bars:
        parts.append(report.grid(["gSDE beside white noise, seeds of both", "seeds", "change", "return"], bars))
    return "\n\n".join(parts)


def _bars(white: list[dict[str, Any]], gsde: list[dict[str, Any]]) -> list[str]:
    seeds = {run["seed"] for run in white} & {run["seed"] for run in gsde}
    sides = [[run for run in runs if run["seed"] in seeds] for runs in (white, gsde)]
    if not seeds:
        return ["0", "–", "–"]
    changes = [mean(run["sampled_smoothness"][0] for run in runs) for runs in sides]
    returns = [mean(mean(run["returns"]) for run in runs) for runs in sides]
    # A tenth of the size of a return may be lost, whatever its sign.
    least = returns[0] - (1.0 - _RETURN) * abs(returns[0])
    ratio = changes[1] / changes[0]
    return [
        f"{len(seeds)}",
        f"{ratio:.2f} ≤ {_CHANGE} {'kept' if ratio <= _CHANGE else '**missed**'}",
        f"{returns[1]:.0f} ≥ {least:.0f} {'kept' if returns[1] >= least else '**missed**'}",
    ]


def plots(results: dict[str, Any], folder: Path) -> str:
    """One panel for each task: the mean over seeds, and a band from the lowest to the highest seed."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "gaussjax"
    measured = {name.rpartition("-")[0] for name, runs in results["exploration"].items() if runs}
    tasks = {task: of for task, of in _TASKS.items() if task in measured}
    rows = max(1, math.ceil(len(tasks) / 2))
    figure = Figure(figsize=(10.0, 3.5 * rows), layout="constrained")
    panels = [*figure.subplots(rows, 2, squeeze=False).flat]
    for axes in panels[len(tasks) :]:
        axes.remove()
    for axes, (task, (environment, algorithm, _, _)) in zip(panels, tasks.items(), strict=False):
        for kind, (title, _) in _KINDS[algorithm].items():
            curves = [np.array(run["curve"]).T for run in results["exploration"].get(f"{task}-{kind}", [])]
            if not curves:
                continue
            # Rows with an episode differ between seeds, so the curves are read at common steps.
            first, last = max(curve[0][0] for curve in curves), min(curve[0][-1] for curve in curves)
            steps = np.linspace(first, last, POINTS)
            returns = np.array([np.interp(steps, *curve) for curve in curves])
            (line,) = axes.plot(
                steps, returns.mean(axis=0), label=f"{title}, {len(curves)} seed{'s'[: len(curves) > 1]}"
            )
            axes.fill_between(steps, returns.min(axis=0), returns.max(axis=0), color=line.get_color(), alpha=0.2)
        axes.set_title(f"{algorithm.upper()}, {environment}")
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return of training episodes")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            # Beneath the panel, because the bands fill it.
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "frameon": False}
            axes.legend(fontsize=8, ncols=2, columnspacing=1.0, handlelength=1.2, **place)
    name = f"exploration-{results['device']}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    return f"![Return over environment steps, with the range of the seeds]({name})"

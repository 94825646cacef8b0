"""The main job as a user runs it: `gaussjax train ppo Pendulum-v1`, for three seeds, start to end."""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report

EPISODES, _POINTS = 20, 50


def run(options: argparse.Namespace) -> dict[str, Any]:
    seeds = report.sizes(options, (0, 1, 2))
    with tempfile.TemporaryDirectory() as folder:
        return {"main_job": [_train(seed, Path(folder) / str(seed)) for seed in seeds]}


def _train(seed: int, out: Path) -> dict[str, Any]:
    from gaussjax import files, rollout
    from gaussjax.cli import options as commands

    command = [
        sys.executable,
        "-m",
        "gaussjax.cli.main",
        "train",
        "ppo",
        "Pendulum-v1",
        "--seed",
        str(seed),
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (out / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps = [0.0, *(row["step"] for row in rows)]
    seconds = sum((steps[i + 1] - steps[i]) / row["steps_per_second"] for i, row in enumerate(rows))
    curve = [(row["step"], row["episode_return"]) for row in rows if math.isfinite(row["episode_return"])]
    loaded = files.load(out / "policy.safetensors")
    # The same seed as the command's own final evaluation.
    episodes = rollout.evaluate(
        loaded.policy,
        loaded.params,
        "Pendulum-v1",
        normalizer=loaded.normalizer,
        episodes=EPISODES,
        seed=seed + commands.EVALUATION_SEED,
    )
    return {"seed": seed, "steps": int(steps[-1]), "seconds": seconds, "returns": episodes.returns, "curve": curve}


def markdown(results: dict[str, Any]) -> str:
    heads = ["seed", "environment steps", "training, s", f"mean return of {EPISODES} episodes", "lowest"]
    rows = []
    for row in results["main_job"]:
        figures = row["seconds"], sum(row["returns"]) / len(row["returns"]), min(row["returns"])
        rows.append([str(row["seed"]), f"{row['steps']:,}", *(f"{figure:.1f}" for figure in figures)])
    return report.grid(heads, rows)


def plots(results: dict[str, Any], folder: Path) -> str:
    """The picture of the README: the mean of the seeds' returns, and a band from the lowest to the highest seed."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "gaussjax"
    curves = [np.array(row["curve"]).T for row in results["main_job"]]
    steps = np.linspace(max(curve[0][0] for curve in curves), min(curve[0][-1] for curve in curves), _POINTS)
    returns = np.array([np.interp(steps, *curve) for curve in curves])
    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, returns.mean(axis=0), linewidth=2.0, label=f"mean of {len(curves)} seeds")
    axes.fill_between(steps, returns.min(axis=0), returns.max(axis=0), alpha=0.25, label="lowest to highest seed")
    axes.set_title("PPO on Pendulum-v1")
    axes.set(xlabel="environment steps", ylabel="mean return of training episodes")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    name = f"main_job-{results['device']}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    return f"![{axes.get_title()}: return over environment steps]({name})"

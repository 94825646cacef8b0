"""The main job as a user runs it: `gaussjax train ppo Pendulum-v1`, for three seeds, start to end."""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import report

EPISODES = 20


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
    if seed == 0:
        # The README shows this learning curve.
        docs = Path(__file__).parent.parent / "docs"
        docs.mkdir(exist_ok=True)
        shutil.copyfile(out / "learning_curve.png", docs / "learning_curve.png")
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
    return {"seed": seed, "steps": int(steps[-1]), "seconds": seconds, "returns": episodes.returns}


def markdown(results: dict[str, Any]) -> str:
    heads = ["seed", "environment steps", "training, s", f"mean return of {EPISODES} episodes", "lowest"]
    rows = []
    for row in results["main_job"]:
        figures = row["seconds"], sum(row["returns"]) / len(row["returns"]), min(row["returns"])
        rows.append([str(row["seed"]), f"{row['steps']:,}", *(f"{figure:.1f}" for figure in figures)])
    return report.grid(heads, rows)

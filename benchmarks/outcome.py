"""What a training by the command led to: `PYTHON -m benchmarks.outcome FOLDER ALGORITHM ENVIRONMENT SEED OPTIONS…`."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

EPISODES, POINTS = 20, 100


def outcome(folder: Path, algorithm: str, environment: str, seed: int, arguments: list[str]) -> dict[str, Any]:
    """Learning curve, time, and returns of the same episodes as in the command's own final evaluation.

    The smoothness is that of the same deterministic actions, and of actions sampled with the noise of the training.
    """
    from gaussjax import envs, files, rollout
    from gaussjax.cli import main as command_line
    from gaussjax.cli import options as commands
    from gaussjax.training.algorithm import exploration_for

    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    steps = [0.0, *(row["step"] for row in rows)]
    seconds = sum((steps[i + 1] - steps[i]) / row["steps_per_second"] for i, row in enumerate(rows))
    curve = [(row["step"], row["episode_return"]) for row in rows if math.isfinite(row["episode_return"])]
    loaded = files.load(folder / "policy.safetensors")
    config = command_line.parse(["train", algorithm, environment, *arguments]).config
    made = envs.make(environment, **loaded.metadata.get("environment_options", {}))
    evaluated = loaded.policy, loaded.params, made if isinstance(made, envs.Environment) else environment
    options = {"normalizer": loaded.normalizer, "episodes": EPISODES, "seed": seed + commands.EVALUATION_SEED}
    episodes = rollout.evaluate(*evaluated, **options)
    source = exploration_for(config, loaded.policy, None)
    sampled = rollout.evaluate(*evaluated, **options, deterministic=False, exploration=source)
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


def main() -> None:
    """Prints the outcome as JSON; a library that prints is redirected to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    folder, algorithm, environment, seed, *arguments = sys.argv[1:]
    print(json.dumps(outcome(Path(folder), algorithm, environment, int(seed), arguments)), file=answers, flush=True)


if __name__ == "__main__":
    main()

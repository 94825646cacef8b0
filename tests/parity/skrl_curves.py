"""Learning curves of skrl's PPO on Pendulum-v1 with its own model and with ours, and the time of a whole training.

Usage: python -m tests.parity.skrl_curves RUNS.jsonl PAGE.md [SEEDS [UPDATES]]

Runs take turns. A run that the first file holds already is not repeated, so the script goes on where it was stopped.
"""

import itertools
import json
import statistics
import sys
import tempfile
from pathlib import Path

from tests.parity.peer import HERE, execute, moved

PARTS = 5
OURS, OWN = "torch_model(policy, device=device)", "torch_model(policy, params=policy.init(key), device=device)"


def scripts(folder):
    ours, (*_, last) = moved("torch")
    (folder / "ours.py").write_text(ours, encoding="utf-8")
    key = f"import jax\nkey = jax.random.key(seed)\n{last.replace(OURS, OWN)}"
    (folder / "own.py").write_text(ours.replace(last, key), encoding="utf-8")
    names = {"skrl's model": HERE / "skrl_pendulum.py", "our model": folder / "ours.py"}
    return {**names, "our model with params=policy.init(key)": folder / "own.py"}


def parts(returns):
    """The mean return in each part of a training."""
    ends = [len(returns) * part // PARTS for part in range(PARTS + 1)]
    return [statistics.fmean(returns[first:last]) for first, last in itertools.pairwise(ends)]


def table(runs, updates):
    curves = {}
    for run in runs:
        curves.setdefault(run["model"], {})[run["seed"]] = run["curve"]
    columns = " | ".join(f"part {part + 1} of {PARTS}" for part in range(PARTS))
    rows = [f"| | {columns} |", "|---|" + "---:|" * PARTS]
    inside = []
    for name, seeds in curves.items():
        columns = [sorted(column) for column in zip(*seeds.values(), strict=True)]
        cells = [f"{statistics.fmean(column):.0f} ({column[0]:.0f} to {column[-1]:.0f})" for column in columns]
        rows.append(f"| {name}, {len(seeds)} seeds | {' | '.join(cells)} |")
    theirs = list(zip(*curves["skrl's model"].values(), strict=True))
    for name in list(curves)[1:]:
        own = list(zip(*curves[name].values(), strict=True))
        for one, other, sentence in (
            (own, theirs, f"The mean of {name} is within the band of skrl's model"),
            (theirs, own, f"The mean of skrl's model is within the band of {name}"),
        ):
            held = sum(min(b) <= statistics.fmean(a) <= max(b) for a, b in zip(one, other, strict=True))
            inside.append(f"- {sentence} in {held} of {PARTS} parts.")
    rows += ["", *inside, "", "| CPU seconds of a training | median | lowest | highest | median ÷ skrl's |"]
    rows += ["|---|---:|---:|---:|---:|"]
    base = statistics.median(run["seconds"] for run in runs if run["model"] == "skrl's model")
    for name in curves:
        seconds = sorted(run["seconds"] for run in runs if run["model"] == name)
        middle = statistics.median(seconds)
        rows.append(f"| {name} | {middle:.1f} | {seconds[0]:.1f} | {seconds[-1]:.1f} | {middle / base:.2f} |")
    return [
        "# skrl's PPO on Pendulum-v1 in PyTorch with our model",
        "",
        "Written by `python -m tests.parity.skrl_curves`. skrl's example trains with its own model, and with the model",
        f"of the migration page: {updates} updates of 2048 steps. Mean return of all episodes in a part of the",
        "training, over the seeds, with the lowest and the highest seed. Runs took turns on a machine with other work.",
        "",
        *rows,
    ]


def main(record, page, seeds=5, updates=25):
    record, runs = Path(record), []
    if record.exists():
        runs = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    done = {(run["model"], run["seed"]) for run in runs}
    with tempfile.TemporaryDirectory() as folder:
        paths, numbers = scripts(Path(folder)), range(int(seeds))
        # The comparison first, then the other start of our model.
        pairs, more = list(paths)[:2], list(paths)[2:]
        for names in (pairs, more):
            for name, seed in ((name, seed) for seed in numbers for name in names if (name, seed) not in done):
                _, returns, seconds = json.loads(execute(paths[name], "torch", seed, updates).splitlines()[-1])
                curve = [round(value, 1) for value in parts(returns)]
                runs.append({"model": name, "seed": seed, "seconds": round(seconds, 2), "curve": curve})
                with record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    Path(page).write_text("\n".join(table(runs, updates)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Time of skrl's PPO on Pendulum-v1 with its own model and with ours.

Usage: python -m tests.parity.skrl_speed PAGE.md [ROUNDS]

Each training has a process of its own, as users have it. The processes take turns, one update of 2048 steps each.
"""

import contextlib
import importlib.metadata
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parity.peer import HERE, command, moved

ACTS = 200
MODELS = "skrl's model", "our model"
WHAT = {
    "train": "an update: 256 steps of 8 environments, 160 minibatches",
    "act": "actions and values of 8 observations, outside of an agent",
}
UNITS = {"train": ("s", 1.0), "act": ("µs", 1e6 / ACTS)}


def work(script, framework):
    """Trains or acts for each line of the input, and prints the processor time and the duration in seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr
    sys.argv = [script, framework, "0", "0"]
    made = runpy.run_path(script)
    options = {**made["quiet"], "timesteps": made["cfg"].rollouts}
    trainer = made["SequentialTrainer"](cfg=options, env=made["env"], agents=made["agent"])
    models, inputs = made["models"], {"observations": made["env"].reset()[0], "states": None}
    without_gradients = made["torch"].no_grad if framework == "torch" else contextlib.nullcontext

    def act():
        # Only skrl's agents compile the models of JAX; without an agent each operation runs on its own.
        vars(models["policy"]).pop("apply", None)
        vars(models["value"]).pop("apply", None)
        with without_gradients():
            for _ in range(ACTS):
                actions, _ = models["policy"].act(dict(inputs), role="policy")
                value, _ = models["value"].act(dict(inputs), role="value")
        return float(actions[0, 0] + value[0, 0])

    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("skrl", framework, "gymnasium"))
    answers.write(f"{', '.join(versions)}, Python {platform.python_version()}\n")
    answers.flush()
    functions = {"train": trainer.train, "act": act}
    for line in sys.stdin:
        used, start = time.process_time(), time.perf_counter()
        functions[line.strip()]()
        answers.write(f"{time.process_time() - used} {time.perf_counter() - start}\n")
        answers.flush()


def measured(framework, folder, rounds):
    """The versions of a framework, and the processor times and durations of each function, for each model."""
    ours = folder / f"{framework}.py"
    ours.write_text(moved(framework)[0], encoding="utf-8")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    scripts = zip(MODELS, (HERE / "skrl_pendulum.py", ours), strict=True)
    workers = {
        model: subprocess.Popen(**command("skrl_speed.py", "work", script, framework), **pipes)
        for model, script in scripts
    }
    versions = [worker.stdout.readline().strip() for worker in workers.values()]
    found = {what: {model: [] for model in MODELS} for what in WHAT}
    for what in WHAT:
        # The first two rounds compile.
        for number in range(rounds + 2):
            for model in MODELS if number % 2 else MODELS[::-1]:
                workers[model].stdin.write(f"{what}\n")
                workers[model].stdin.flush()
                times = [float(part) for part in workers[model].stdout.readline().split()]
                if number >= 2:
                    found[what][model].append(times)
    for worker in workers.values():
        worker.stdin.close()
        assert worker.wait(60) == 0
    return versions[0], found


def rows(framework, found):
    for what, text in WHAT.items():
        unit, factor = UNITS[what]
        for i, clock in enumerate(("processor time", "duration")):
            theirs, ours = ([times[i] * factor for times in found[what][model]] for model in MODELS)
            low, _, high = statistics.quantiles([b / a for a, b in zip(theirs, ours, strict=True)], n=4)
            middle = [statistics.median(times) for times in (theirs, ours)]
            cells = " | ".join(f"{value:.3g} {unit}" for value in middle)
            yield f"| {framework}: {text} | {clock} | {cells} | {middle[1] / middle[0]:.2f} | {low:.2f} to {high:.2f} |"


def main(page, rounds=40):
    with tempfile.TemporaryDirectory() as folder:
        found = {framework: measured(framework, Path(folder), int(rounds)) for framework in ("torch", "jax")}
    lines = [
        "# Speed of skrl's PPO on Pendulum-v1 with our model",
        "",
        "Written by `python -m tests.parity.skrl_speed`. skrl's example trains with its own model, and with the model",
        f"of the migration page. Each has a process, and these take turns {rounds} times.",
        *(f"Versions: {versions}." for versions, _ in found.values()),
        "",
        "| | clock | skrl's model, median | our model, median | ours ÷ skrl's | middle half of the rounds |",
        "|---|---|---:|---:|---:|---:|",
        *(row for framework, (_, times) in found.items() for row in rows(framework, times)),
        "",
        "skrl's agents in JAX compile their models. Outside of an agent skrl's model runs each operation on its own,",
        "and our model runs one compiled function everywhere.",
    ]
    Path(page).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    work(*sys.argv[2:]) if sys.argv[1] == "work" else main(*sys.argv[1:])

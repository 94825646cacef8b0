"""A training that is killed at any instant ends with the policy of an uninterrupted one.

`make test-faults` has the full counts of `BARS`, and the slow tests a few kills.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gaussjax.files import container
from gaussjax.training.run import CONFIG, METRICS, POLICY, checkpoint, loop, output_files

pytestmark = pytest.mark.slow
FULL = bool(os.environ.get("FAULTS_RECORD"))
# A few, full.
BARS = {"classic control": (4, 120), "JAX environment": (2, 120), "SAC": (0, 60), "rounds": (4, 50)}
COMMON = "--checkpoint-every 2 --evaluation-episodes 1 --total-steps 512"
PPO = f"--num-envs 4 --num-steps 16 --batch-size 32 --num-epochs 1 {COMMON}"
CASES = {
    "classic control": f"ppo Pendulum-v1 {PPO}",
    "JAX environment": f"ppo Pendulum-v1 --backend jax {PPO}",
    "SAC": "sac MountainCarContinuous-v0 --num-envs 2 --num-steps 32 --batch-size 8 --hidden-sizes 8 "
    f"--learning-starts 64 --buffer-size 300 {COMMON}",
}


@contextlib.contextmanager
def processes(tmp_path, repository):
    """A function that runs a command in a process of tests/faults/trainings.py and returns the answer."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.trainings"]
    options = {"env": {**os.environ, "PYTHONPATH": str(repository)}, "cwd": repository, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as server:
        output = tmp_path / "output.txt"

        def ask(command, folder, change=None, seconds=None):
            (tmp_path / "output.txt.changes").unlink(missing_ok=True)
            asked = {"command": command, "output": str(output), "folder": str(folder)}
            server.stdin.write(json.dumps({**asked, "change": change, "seconds": seconds}) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            assert answer["status"] in (0, -9), output.read_text()
            return answer

        yield ask
        server.stdin.close()


@pytest.fixture
def ask(tmp_path, repository):
    with processes(tmp_path, repository) as ask:
        yield ask


def onward(folder, options):
    """The command that a user repeats after a kill."""
    begun = (folder / CONFIG).exists()
    return ["resume", str(folder)] if begun else ["train", *options.split(), "--out", str(folder)]


def results(folder):
    """The policies bit for bit with their metadata, and the rows of metrics but for the speed."""
    policies = {}
    for name in (POLICY, output_files.BEST):
        if (folder / name).exists():
            tensors, description = container.read(folder / name)
            policies[name] = {key: array.tobytes() for key, array in tensors.items()}, description
    rows = output_files.read_metrics(folder / METRICS)
    return policies, [{name: repr(value) for name, value in row.items() if name != "steps_per_second"} for row in rows]


def instant(folder):
    """Part of the training in which it was killed."""
    if not (folder / CONFIG).exists():
        return "at the start"
    if (folder / POLICY).exists():
        return "during the evaluation"
    steps = 0
    if (folder / checkpoint.LATEST).exists():
        steps = int(container.read(folder / checkpoint.LATEST)[0][".steps"])
    return "before the last checkpoint" if steps < 512 else "before the last save"


@pytest.mark.parametrize("name", [name for name in CASES if BARS[name][FULL]])
def test_a_training_killed_anywhere_ends_as_an_uninterrupted_one(name, ask, tmp_path, record_bar):
    """Half of the kills are right before a change of the folder, and half after a random time."""
    generator, options, wanted = np.random.default_rng(0), CASES[name], BARS[name][FULL]
    whole = tmp_path / "whole"
    ask(onward(whole, options), whole)
    expected, began = results(whole), time.perf_counter()
    changes = ask(onward(tmp_path / "other", options), tmp_path / "other")["changes"]
    lasted = time.perf_counter() - began
    assert results(tmp_path / "other") == expected
    kills, instants, lost = 0, {}, 0
    for number in range(wanted):
        folder, killed = tmp_path / str(number), True
        while killed and kills < wanted:
            how = {"change": int(generator.integers(1, changes + 1))}
            if generator.integers(2):
                how = {"seconds": float(generator.uniform(0, lasted))}
            killed = ask(onward(folder, options), folder, **how)["status"] == -9
            if killed:
                kills += 1
                instants[instant(folder)] = instants.get(instant(folder), 0) + 1
        if killed:
            ask(onward(folder, options), folder)
        lost += results(folder) != expected
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
        if kills >= wanted:
            break
    where = ", ".join(f"{count} {part}" for part, count in sorted(instants.items()))
    record_bar("runs", f"kill -9 during a training, {name} ({where}), lost or different", kills, lost, 0)
    assert lost == 0
    assert len(instants) == 4 or not FULL, instants


def test_fifty_rounds_of_killing_and_resuming_measure_each_update_once_and_in_order(ask, tmp_path, record_bar):
    rounds, generator = BARS["rounds"][FULL], np.random.default_rng(1)
    options = CASES["classic control"].replace("every 2", "every 1").replace("512", str(64 * 3 * rounds))
    folder, kills = tmp_path / "run", 0
    while kills < rounds:
        kills += ask(onward(folder, options), folder, change=int(generator.integers(10, 40)))["status"] == -9
        assert not (folder / POLICY).exists()
    ask(onward(folder, options), folder)
    steps = [int(line.partition(",")[0]) for line in (folder / METRICS).read_text().splitlines()[1:]]
    expected = list(range(64, 64 * 3 * rounds + 1, 64))
    wrong = sum(one != other for one, other in zip(steps, expected, strict=True))
    record_bar("runs", "rounds of kill and resume, rows of metrics missing, doubled or out of order", kills, wrong, 0)
    assert wrong == 0


def test_a_second_process_on_a_run_is_refused_in_one_line(ask, tmp_path, repository, record_bar):
    """It resumes the run, or trains into its folder, while the first one works."""
    options = CASES["classic control"].replace("512", "2000000")
    folder, wrong = tmp_path / "run", 0
    first = threading.Thread(target=ask, args=(onward(folder, options), folder))
    first.start()
    while not (folder / checkpoint.LATEST).exists():
        time.sleep(0.1)
    number = int((folder / loop.LOCK).read_text().split()[1])
    before = (folder / METRICS).read_text()
    commands = ["resume", str(folder)], ["train", *options.split(), "--out", str(folder)]
    try:
        for command in commands:
            program = [sys.executable, "-W", "ignore", "-m", "gaussjax.cli.main", *command]
            refused = subprocess.run(program, capture_output=True, text=True, cwd=repository)
            line = refused.stderr.splitlines()
            wrong += refused.returncode != 2 or len(line) != 1 or f"in use by process {number} on " not in line[0]
    finally:
        os.kill(number, 9)
        first.join()
    assert (folder / METRICS).read_text().startswith(before)
    record_bar("runs", "second process on a run, not refused in one line", len(commands), wrong, 0)
    assert wrong == 0

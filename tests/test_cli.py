from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import gaussjax
from gaussjax import cli

SHORT = ["--num-envs", "4", "--num-steps", "64", "--batch-size", "64", "--num-epochs", "2"]


def command(*arguments):
    return [sys.executable, "-m", "gaussjax.cli", *arguments]


def refused(capsys, monkeypatch, *arguments) -> str:
    """The one line on standard error of a command that exits with 2."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_train_leaves_a_policy_that_evaluate_runs(tmp_path):
    out = tmp_path / "run"
    options = ["--total-steps", "512", "--seed", "3", "--out", str(out), "--evaluation-episodes", "2", *SHORT]
    trained = subprocess.run(command("train", "Pendulum-v1", *options), capture_output=True, text=True, check=True)
    assert "mean return" in trained.stdout
    assert trained.stderr == ""
    assert {file.name for file in out.iterdir()} - {"best.safetensors"} == {
        "checkpoint.safetensors",
        "policy.safetensors",
        "metrics.csv",
        "config.json",
        "learning_curve.png",
    }
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["256", "512"]
    assert float(rows[0]["steps_per_second"]) > 0
    assert "episode_return" in rows[0]
    config = json.loads((out / "config.json").read_text())
    assert (config["environment"], config["seed"], config["num_envs"]) == ("Pendulum-v1", 3, 4)
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 512

    again = subprocess.run(
        command("evaluate", str(out / "policy.safetensors"), "--episodes", "2", "--seed", "10003"),
        capture_output=True,
        text=True,
        check=True,
    )
    # The same seeds, the same policy: the very same table.
    assert again.stdout in trained.stdout


def test_compiled_training_of_the_command_line_leaves_the_same_files(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    out = tmp_path / "run"
    options = ["--backend", "jax", "--distributed", "local", "--total-steps", "512", "--evaluation-episodes", "2"]
    cli.main(["train", "Pendulum-v1", "--out", str(out), *options, *SHORT])
    assert "mean return" in capsys.readouterr().out
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["256", "512"]
    assert float(rows[0]["steps_per_second"]) > 0
    assert json.loads((out / "config.json").read_text())["backend"] == "jax"
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 512


def test_sigterm_saves_the_policy_and_exits_with_130(tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        command("train", "Pendulum-v1", "--total-steps", "100000000", "--out", str(out), *SHORT),
        stdout=subprocess.PIPE,
        text=True,
    )
    metrics = out / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert "Interrupted" in printed
    steps = gaussjax.load(out / "policy.safetensors").metadata["steps"]
    assert steps >= 3 * 256

    # Three updates more; the metrics go on where they were.
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "total_steps": steps + 3 * 256, "evaluation_episodes": 1}))
    resumed = subprocess.run(command("resume", str(out)), capture_output=True, text=True, check=True)
    assert f"at step {steps:,}" in " ".join(resumed.stdout.split())
    with metrics.open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(256, steps + 3 * 256 + 1, 256))


def test_existing_folder_is_refused_and_left_alone(tmp_path, capsys, monkeypatch):
    (tmp_path / "kept").write_text("mine")
    line = refused(capsys, monkeypatch, "train", "Pendulum-v1", "--out", str(tmp_path))
    assert line == f"gaussjax: out: {tmp_path} exists. Name another folder with --out, or remove this one."
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "Pendulm-v1"], "Did you mean: `Pendulum`?"),
        (["train", "CartPole-v1"], "action_space: expected a Box, got Discrete(2)"),
        (
            ["train", "Pendulum-v1", "--num-env", "3"],
            "Unrecognized options: --num-env, 3. Perhaps you meant --num-envs.",
        ),
        (["train", "Pendulum-v1", "--num-envs", "x"], "invalid literal for int() with base 10: 'x'"),
        (["train", "Pendulum-v1", "--batch-size", "100"], "gaussjax: batch_size: expected a divisor of"),
        (["train", "MountainCarContinuous-v0", "--backend", "jax"], "as JAX functions (Pendulum-v1), got"),
        (["train", "Pendulum-v1", "--distributed", "a:1,2,2"], "expected local, auto or COORDINATOR:PORT,PROCESSES"),
        (["train"], "Missing from gaussjax train: STR"),
        ([], "Expected one of {train, evaluate, resume, info, export}"),
        (["evaluate", "no-such-file"], "file: no-such-file cannot be read (No such file or directory)."),
        (["info", "no-such-file"], "file: no-such-file cannot be read (No such file or directory)."),
        (["export", "no-such-file", "--format", "numpy"], "file: no-such-file cannot be read"),
        (["export", "no-such-file", "--format", "pickle"], "pickle"),
        (["resume", "no-such-folder"], "folder: no-such-folder is not one of a training (No such file or directory"),
    ],
)
def test_wrong_commands_get_one_line_and_exit_code_2(arguments, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, monkeypatch, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_policy_of_another_environment_is_refused(tmp_path, capsys, monkeypatch):
    import jax

    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box((1,), -2.0, 2.0))
    path = tmp_path / "policy.safetensors"
    gaussjax.save(path, policy, policy.init(jax.random.key(0)))
    line = refused(capsys, monkeypatch, "evaluate", str(path), "--environment", "MountainCarContinuous-v0")
    assert "expected (..., 3), got (20, 2)" in line
    assert "names none. Say which with --environment." in refused(capsys, monkeypatch, "evaluate", str(path))


def test_info_prints_what_a_file_holds_and_export_writes_programs(tmp_path, capsys, monkeypatch):
    import jax
    import numpy as np

    from gaussjax import numpy_act

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    monkeypatch.setenv("COLUMNS", "200")
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box((1,), -2.0, 2.0))
    params, path = policy.init(jax.random.key(0)), tmp_path / "policy.safetensors"
    gaussjax.save(path, policy, params, metadata={"environment": "Pendulum-v1"})
    cli.main(["info", str(path)])
    shown = capsys.readouterr().out
    for part in ("metadata: environment", "Pendulum-v1", "version: jax", "params/params/head/mean/kernel", "(8, 1)"):
        assert part in shown
    cli.main(["export", str(path), "--format", "numpy"])
    assert "observations float32['batch', 3] -> actions" in " ".join(capsys.readouterr().out.split())
    observations = np.ones((2, 3), np.float32)
    expected = policy.act(params, None, observations, deterministic=True).actions
    got = numpy_act.load(tmp_path / "policy.npz")(observations=observations)["actions"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)

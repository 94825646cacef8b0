from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors
from PIL import Image

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.cli.options import Info
from gaussjax.cli.train import INTERRUPTED
from gaussjax.training.run import report

SHORT = ["--num-envs", "4", "--num-steps", "64", "--batch-size", "64", "--num-epochs", "2"]


def command(*arguments):
    return [sys.executable, "-m", "gaussjax.cli.main", *arguments]


def failed(capsys, monkeypatch, *arguments, code=2) -> str:
    """Standard error of a command that fails with this exit code."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == code
    return capsys.readouterr().err


def refused(capsys, monkeypatch, *arguments, code=2) -> str:
    """The one line on standard error of a command that fails with this exit code."""
    lines = failed(capsys, monkeypatch, *arguments, code=code).splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_reader_that_goes_away_is_no_error():
    for arguments in (["--help"], ["train", "ppo", "--help"]):
        with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 1


def test_another_pipe_that_breaks_is_not_passed_over(capsys, monkeypatch):
    def broken(_):
        raise BrokenPipeError("of an environment")

    monkeypatch.setitem(cli._RUN, Info, broken)
    line = refused(capsys, monkeypatch, "info", "policy.safetensors", code=1)
    assert line == "gaussjax: of an environment"


def test_train_leaves_a_policy_that_evaluate_runs(tmp_path):
    out = tmp_path / "run"
    options = ["--total-steps", "512", "--seed", "3", "--out", str(out), "--evaluation-episodes", "2", *SHORT]
    trained = subprocess.run(
        command("train", "ppo", "Pendulum-v1", *options), capture_output=True, text=True, check=True
    )
    assert "mean return" in trained.stdout
    assert "explained variance" in trained.stdout
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
    cli.main(["train", "ppo", "Pendulum-v1", "--out", str(out), *options, *SHORT])
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
        command("train", "ppo", "Pendulum-v1", "--total-steps", "100000000", "--out", str(out), *SHORT),
        stdout=subprocess.PIPE,
        text=True,
    )
    metrics = out / "metrics.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
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


def in_process(monkeypatch, *arguments):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    cli.main(arguments)


def same_arrays(one, two):
    with safetensors.safe_open(one, "numpy") as a, safetensors.safe_open(two, "numpy") as b:
        assert set(a.keys()) == set(b.keys())
        for name in a.keys():  # noqa: SIM118
            np.testing.assert_array_equal(a.get_tensor(name), b.get_tensor(name))


@pytest.mark.slow
def test_sac_trains_and_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch, capsys):
    options = ["--num-envs", "2", "--num-steps", "32", "--batch-size", "8", "--hidden-sizes", "8"]
    options += [
        "--learning-starts",
        "64",
        "--buffer-size",
        "100000",
        "--evaluation-episodes",
        "1",
        "--checkpoint-every",
    ]
    options += ["1", "--tensorboard", "--normalize-observations"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    in_process(monkeypatch, "train", "sac", "Pendulum-v1", "--out", str(whole), "--total-steps", "768", *options)
    in_process(monkeypatch, "train", "sac", "Pendulum-v1", "--out", str(parts), "--total-steps", "512", *options)
    shown = " ".join(capsys.readouterr().out.split())
    assert "A checkpoint holds the replay buffer as far as it is filled, 3 MB at most." in shown
    config = json.loads((parts / "config.json").read_text())
    assert (config["algorithm"], config["buffer_size"], config["tensorboard"]) == ("sac", 100_000, True)
    (parts / "config.json").write_text(json.dumps({**config, "total_steps": 768}))
    in_process(monkeypatch, "resume", str(parts))
    assert {file.name for file in whole.iterdir()} == {file.name for file in parts.iterdir()}
    for name in ("policy.safetensors", "best.safetensors", "checkpoint.safetensors"):
        same_arrays(whole / name, parts / name)
    assert len(report.read(parts / "metrics.csv")) == 12


@pytest.mark.slow
def test_an_environment_of_a_users_module_is_trained_evaluated_and_resumed(tmp_path, monkeypatch, capsys):
    entry = "'gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=50"
    (tmp_path / "my_module.py").write_text(f"import gymnasium\n\ngymnasium.register('Mine-v0', {entry})\n")
    monkeypatch.syspath_prepend(tmp_path)
    out, name = tmp_path / "run", "my_module:Mine-v0"
    options = ["--total-steps", "512", "--evaluation-episodes", "2", "--checkpoint-every", "1", *SHORT]
    in_process(monkeypatch, "train", "ppo", name, "--out", str(out), *options)
    assert "2 episodes, deterministic actions" in " ".join(capsys.readouterr().out.split())
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "total_steps": 768}))
    # A file does not get to import anything; its user does.
    assert "would import a module" in refused(capsys, monkeypatch, "resume", str(out))
    assert "expected my_module:Mine-v0" in refused(capsys, monkeypatch, "resume", str(out), "--environment", "Other-v0")
    in_process(monkeypatch, "resume", str(out), "--environment", name)
    assert [row["step"] for row in report.read(out / "metrics.csv")] == [256, 512, 768]


def test_cloning_trains_from_a_file_and_resumes_from_the_same_one_only(tmp_path, monkeypatch, capsys):
    seen = np.random.default_rng(0).uniform(-1, 1, (256, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", observations=seen, actions=seen[:, :1])
    out, options = tmp_path / "run", ["--batch-size", "64", "--hidden-sizes", "8", "--num-epochs", "3"]
    options += ["--evaluation-episodes", "1", "--dataset", str(tmp_path / "data.npz"), "--out", str(out)]
    in_process(monkeypatch, "train", "bc", "Pendulum-v1", *options)
    assert {file.name for file in out.iterdir()} >= {
        "best.safetensors",
        "checkpoint.safetensors",
        "policy.safetensors",
        "metrics.csv",
        "config.json",
        "learning_curve.png",
    }
    rows = report.read(out / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["mean_error"] < rows[0]["mean_error"]
    assert gaussjax.load(out / "policy.safetensors").normalizer is not None
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "num_epochs": 5}))
    in_process(monkeypatch, "resume", str(out))
    assert [row["step"] for row in report.read(out / "metrics.csv")] == [1, 2, 3, 4, 5]
    np.savez(tmp_path / "data.npz", observations=seen, actions=seen[:, 1:2])
    capsys.readouterr()
    assert "has changed since the training began" in refused(capsys, monkeypatch, "resume", str(out))
    line = refused(capsys, monkeypatch, "train", "bc", "MountainCarContinuous-v0", *options[:-1], str(out / "new"))
    assert "dataset: expected 2 observations and 1 actions a row, as the policy has, got 3 and 1" in line


def test_evaluate_writes_the_first_episode_as_a_gif(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pygame")
    # Its greeting is no output of the command.
    capsys.readouterr()
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)), clip_actions=True)
    file, picture = tmp_path / "policy.safetensors", tmp_path / "episode.gif"
    gaussjax.save(file, policy, policy.init(jax.random.key(0)), metadata={"environment": "Pendulum-v1"})
    in_process(monkeypatch, "evaluate", str(file), "--episodes", "2")
    plain = capsys.readouterr().out
    assert "were cut" not in plain
    in_process(monkeypatch, "evaluate", str(file), "--episodes", "2", "--max-steps", "150")
    assert "2 of 2 episodes had not ended after 150 steps and were cut." in capsys.readouterr().out
    in_process(monkeypatch, "evaluate", str(file), "--episodes", "2", "--gif", str(picture))
    # Watched or not, the episodes are the same.
    assert plain in (drawn := capsys.readouterr().out)
    assert "200 pictures" in " ".join(drawn.split())
    with Image.open(picture) as image:
        shown = [(image.seek(i), image.info["duration"])[1] for i in range(image.n_frames)]
    # Equal pictures in a row are kept as one that stays longer.
    assert sum(shown) == 200 * 30
    assert len(shown) > 20


def test_existing_folder_is_refused_and_left_alone(tmp_path, capsys, monkeypatch):
    (tmp_path / "kept").write_text("mine")
    line = refused(capsys, monkeypatch, "train", "ppo", "Pendulum-v1", "--out", str(tmp_path))
    assert line == f"gaussjax: out: {tmp_path} exists. Name another folder with --out, or remove this one."
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train ppo Pendulm-v1", "Did you mean: `Pendulum`?"),
        ("train ppo CartPole-v1", "action_space: expected a Box, got Discrete(2)"),
        ("train ppo Pendulum-v1 --batch-size 100", "gaussjax: batch_size: expected a divisor of"),
        ("train ppo Pendulum-v1 --batch-size 300", "Choose one such as 256."),
        ("train ppo Pendulum-v1 --num-envs 0", "gaussjax: num_envs: expected at least 1, got 0."),
        ("train ppo Pendulum-v1 --total-steps -5", "gaussjax: total_steps: expected at least 1, got -5."),
        ("train ppo Pendulum-v1 --learning-rate -1", "learning_rate: expected a number above 0, got -1.0."),
        ("train ppo Pendulum-v1 --evaluation-episodes 0", "gaussjax: evaluation_episodes: expected at least 1"),
        ("train ppo Pendulum-v1 --max-skipped 0", "gaussjax: max_skipped: expected at least 1, got 0."),
        ("train ppo Pendulum-v1 --timeout -1", "gaussjax: timeout: expected a number above 0, got -1.0."),
        ("train ppo Pendulum-v1 --timeout inf", "gaussjax: timeout: expected a finite number, got inf."),
        ("train ppo Pendulum-v1 --seed -20000", "seed: expected a number from 0 to 2**32 - 1, got -20000."),
        ("train ppo Pendulum-v1 --seed 4294967296", "seed: expected a number from 0 to 2**32 - 1, got 4294967"),
        ("evaluate policy.safetensors --seed -1", "gaussjax: seed: expected 0 or more, got -1."),
        ("train ppo Pendulum-v1 --entropy-coefficient nan", "entropy_coefficient: expected a finite number"),
        ("train ppo Pendulum-v1 --checkpoint-every -1", "checkpoint_every: expected 0 or more, got -1."),
        ("train ppo Pendulum-v1 --desired-kl 0", "desired_kl: expected a number above 0, got 0.0."),
        ("train ppo Pendulum-v1 --total-steps 3000000000", "total_steps: expected less than 2**31"),
        (
            "train sac Pendulum-v1 --total-steps 1500",
            "learning_starts: expected fewer than the total_steps = 1500, got 5000: nothing would be learnt.",
        ),
        ("evaluate policy.safetensors --episodes 0", "gaussjax: episodes: expected at least 1, got 0."),
        ("train ppo Pendulum-v1 --gamma 1.5", "gamma: expected a number from 0 to 1, got 1.5."),
        ("train ppo Pendulum-v1 --activation rellu", "got 'rellu'. Did you mean 'relu'?"),
        ("train ppo MountainCarContinuous-v0 --backend jax", "as JAX functions (Pendulum-v1), got"),
        ("train ppo Pendulum-v1 --distributed a:1,2,2", "expected local, auto or COORDINATOR:PORT,PROCESSES"),
        (
            "train bc Pendulum-v1 --dataset no-such-file",
            "dataset: no-such-file cannot be read (No such file or directory).",
        ),
        ("evaluate no-such-file --gif no-such/a.gif", "gif: expected an existing folder, got no-such"),
        ("evaluate no-such-file --gif a.mp4", "gif: expected a name that ends in .gif, got a.mp4."),
        ("evaluate no-such-file", "file: no-such-file cannot be read (No such file or directory)."),
        ("info no-such-file", "file: no-such-file cannot be read (No such file or directory)."),
        ("export no-such-file --format numpy", "file: no-such-file cannot be read"),
        ("resume no-such-folder", "folder: no-such-folder is not one of a training (No such file or directory"),
    ],
)
def test_wrong_commands_get_one_line_and_exit_code_2(line, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, monkeypatch, *line.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", ["Expected one of {train, resume, evaluate, info, export}"]),
        ("train", ["Expected one of {ppo, sac, bc}"]),
        ("train trpo Pendulum-v1", ["Unrecognized options: trpo", "Available subcommands: ppo, sac, bc"]),
        ("train ppo", ["Missing from gaussjax train ppo: ENVIRONMENT"]),
        ("train bc Pendulum-v1", ["Missing from gaussjax train bc: --dataset PATH"]),
        ("train ppo Pendulum-v1 --num-env 3", ["options: --num-env, 3", "meant: --num-envs INT"]),
        ("train ppo Pendulum-v1 --num-envs x", ["--num-envs: invalid literal for int() with base 10"]),
        ("train ppo Pendulum-v1 --buffer-size 9", ["--buffer-size", "in gaussjax train sac --help"]),
        ("train sac Pendulum-v1 --dataset a", ["--dataset", "in gaussjax train bc --help"]),
        ("export no-such-file --format pickle", ["invalid choice 'pickle' for argument '--format'"]),
    ],
)
def test_wrong_options_get_the_parsers_error_and_exit_code_2(line, says, capsys, monkeypatch):
    message = failed(capsys, monkeypatch, *line.split())
    assert "Traceback" not in message
    words = " ".join(line.strip("│╭╮╰╯─ ") for line in message.splitlines())
    assert [part for part in says if part not in words] == [], words


def test_policy_of_another_environment_is_refused(tmp_path, capsys, monkeypatch):
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
    path = tmp_path / "policy.safetensors"
    gaussjax.save(path, policy, policy.init(jax.random.key(0)))
    line = refused(capsys, monkeypatch, "evaluate", str(path), "--environment", "MountainCarContinuous-v0")
    assert "expected (..., 3), got (20, 2)" in line
    assert "names none. Say which with --environment." in refused(capsys, monkeypatch, "evaluate", str(path))
    assert f"{tmp_path} has policy.safetensors." in refused(capsys, monkeypatch, "evaluate", str(tmp_path))


def test_info_prints_what_a_file_holds_and_export_writes_programs(tmp_path, capsys, monkeypatch):
    from gaussjax.export import numpy_act

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    monkeypatch.setenv("COLUMNS", "200")
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)))
    params, path = policy.init(jax.random.key(0)), tmp_path / "policy.safetensors"
    gaussjax.save(path, policy, params, metadata={"environment": "Pendulum-v1"})
    cli.main(["info", str(path)])
    shown = capsys.readouterr().out
    for part in ("metadata: environment", "Pendulum-v1", "version: jax", "params/params/head/mean/kernel", "(8, 1)"):
        assert part in shown
    cli.main(["export", str(path), "--format", "numpy"])
    assert "policy.npz, read by numpy_act.py beside it: observations float32['batch', 3] -> actions" in " ".join(
        capsys.readouterr().out.split()
    )
    observations = np.ones((2, 3), np.float32)
    expected = policy.act(params, None, observations, deterministic=True).actions
    got = numpy_act.load(tmp_path / "policy.npz")(observations=observations)["actions"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, monkeypatch, "train", "ppo", "Pendulum-v1", "--out", str(tmp_path / "file" / "run"))
    assert line == f"gaussjax: out: {tmp_path / 'file' / 'run'} cannot be made (Not a directory). Name another folder."

"""Cloning on the command line: from a file to a policy, its early end, and its resumption."""

import sys
from pathlib import Path

import numpy as np
import pytest

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.training.run import output_files
from tests.cli.test_errors import refused
from tests.cli.test_main import FILES, same_arrays
from tests.training.test_nested_observations import Robot


def test_cloning_trains_from_a_file_and_resumes_from_the_same_one_only(tmp_path, capsys):
    seen = np.random.default_rng(0).uniform(-1, 1, (256, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", observations=seen, actions=seen[:, :1])
    out, options = tmp_path / "run", ["--batch-size", "64", "--hidden-sizes", "8", "--total-epochs", "3"]
    options += ["--evaluation-episodes", "1", "--dataset", str(tmp_path / "data.npz"), "--out", str(out)]
    cli.main(["train", "bc", "Pendulum-v1", *options])
    printed = capsys.readouterr().out
    assert "mean return" in printed
    cli.main(["evaluate", str(out / "policy.safetensors"), "--episodes", "1", "--seed", "10000"])
    # The same seeds, the same policy: the very same table.
    assert capsys.readouterr().out in printed
    assert {file.name for file in out.iterdir()} >= {"best.safetensors", *FILES}
    rows = output_files.read_metrics(out / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[2]["mean_error"] < rows[0]["mean_error"]
    assert gaussjax.load(out / "policy.safetensors").normalizer is not None
    cli.main(["resume", str(out), "--total-steps", "5"])
    assert [row["step"] for row in output_files.read_metrics(out / "metrics.csv")] == [1, 2, 3, 4, 5]
    np.savez(tmp_path / "data.npz", observations=seen, actions=seen[:, 1:2])
    capsys.readouterr()
    assert "has changed since the training began" in refused(capsys, "resume", str(out))
    line = refused(capsys, "train", "bc", "MountainCarContinuous-v0", *options[:-1], str(out / "new"))
    assert "data.npz: observations: expected (..., 2), got (1, 3)" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [["mlp"], ["lstm", "--recurrent-size", "4", "--sequence-length", "5", "--burn-in", "2"]],
    ids=["mlp", "lstm"],
)
def test_cloning_of_nested_observations_stops_early_with_the_best_policy_and_resumes(
    tmp_path, monkeypatch, capsys, network
):
    """Images, integers and floats in nested dicts; random actions, so that a network too large soon scores worse."""
    (tmp_path / "my_robot.py").write_text("from tests.training.test_nested_observations import Robot as make\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    robot, columns = Robot(), {"observations/camera": [], "observations/mode": [], "observations/more/joints": []}
    columns |= {f"observations/more/switches/_index_{i}": [] for i in range(2)}
    robot.reset(seed=0)
    for _ in range(100):
        seen = robot.observation_space.sample()
        more = seen["more"]
        values = seen["camera"], seen["mode"], np.clip(more["joints"], -5, 5), *more["switches"]
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    actions, starts = np.random.default_rng(0).uniform(-1, 1, (100, 2)), np.arange(100) % 5 == 0
    np.savez("data.npz", actions=actions, starts=starts, **{name: np.array(values) for name, values in columns.items()})
    options = ["--dataset", "data.npz", "--batch-size", "10", "--hidden-sizes", "64", "--learning-rate", "0.01"]
    options += ["--patience", "3", "--augment", "1", "--evaluation-episodes", "2", "--network", *network]
    cli.main(["train", "bc", "my_robot:make", "--out", "whole", *options])
    printed = " ".join(capsys.readouterr().out.split())
    rows = output_files.read_metrics(Path("whole/metrics.csv"))
    best = max(rows, key=lambda row: row["score"])
    assert len(rows) == best["step"] + 3 < 50
    assert rows[-1]["best_epoch"] == best["step"]
    assert f"No better score in 3 epochs. The policy is from epoch {best['step']:.0f}, which has the best" in printed
    cli.main(["train", "bc", "my_robot:make", "--out", "parts", *options, "--total-epochs", f"{best['step']:.0f}"])
    cli.main(["resume", "parts", "--environment", "my_robot:make", "--total-steps", "50"])
    for name in ("policy.safetensors", "checkpoint.safetensors"):
        same_arrays(Path("whole") / name, Path("parts") / name)
    # The policy of the folder is the best, which a training to that epoch and no further had as its last.
    same_arrays(Path("whole/policy.safetensors"), Path("whole/best.safetensors"))

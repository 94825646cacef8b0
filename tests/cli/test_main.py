import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors
from PIL import Image

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.cli.train import INTERRUPTED
from gaussjax.training.run import output_files
from tests.cli.test_errors import SHORT, failed, refused, saved


def command(*arguments):
    return [sys.executable, "-m", "gaussjax.cli.main", *arguments]


@pytest.mark.parametrize("words", [pytest.param("--help", marks=pytest.mark.slow), "train ppo --help"])
def test_a_reader_that_goes_away_is_no_error(words):
    with subprocess.Popen(command(*words.split()), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


FILES = {"checkpoint.safetensors", "policy.safetensors", "metrics.csv", "config.json", "learning_curve.png"}


def test_sigterm_saves_the_policy_and_exits_with_130_and_resume_goes_on(tmp_path, capsys, monkeypatch):
    out, write = tmp_path / "run", output_files.MetricsFile.write

    def write_and_stop(self, row):
        write(self, row)
        if row["step"] % 192 == 0:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(output_files.MetricsFile, "write", write_and_stop)
    words = ["train", "ppo", "Pendulum-v1", "--seed", "3", "--out", str(out), *SHORT]
    printed, errors = failed(capsys, *words, code=INTERRUPTED)
    assert errors == ""
    assert "Interrupted" in printed
    assert "explained variance" in printed
    assert {file.name for file in out.iterdir()} - {"best.safetensors"} == FILES
    config = json.loads((out / "config.json").read_text())
    assert (config["environment"], config["seed"], config["num_envs"]) == ("Pendulum-v1", 3, 4)
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 192

    # Three updates more; the metrics go on where they were.
    printed, _ = failed(capsys, "resume", str(out), code=INTERRUPTED)
    assert "at step 192" in " ".join(printed.split())
    rows = rows_of(out)
    assert [int(row["step"]) for row in rows] == list(range(64, 385, 64))
    assert float(rows[0]["steps_per_second"]) > 0
    assert "episode_return" in rows[0]
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 384


@pytest.mark.slow
def test_compiled_training_of_the_command_line_leaves_the_same_files(tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--backend", "jax", "--distributed", "local", "--total-steps", "128", "--evaluation-episodes", "2"]
    cli.main(["train", "ppo", "Pendulum-v1", "--out", str(out), *options, *SHORT])
    assert "mean return" in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} - {"best.safetensors"} == FILES
    rows = rows_of(out)
    assert [row["step"] for row in rows] == ["64", "128"]
    assert float(rows[0]["steps_per_second"]) > 0
    assert json.loads((out / "config.json").read_text())["backend"] == "jax"
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 128


def same_arrays(one, two):
    with safetensors.safe_open(one, "numpy") as a, safetensors.safe_open(two, "numpy") as b:
        assert set(a.keys()) == set(b.keys())
        for name in a.keys():  # noqa: SIM118
            np.testing.assert_array_equal(a.get_tensor(name), b.get_tensor(name))


@pytest.mark.slow
def test_sac_trains_and_a_resumed_run_is_the_uninterrupted_one(tmp_path, capsys):
    options = "--num-envs 2 --num-steps 32 --batch-size 8 --hidden-sizes 8 --learning-starts 64 --buffer-size 100000"
    options = [*options.split(), "--evaluation-episodes", "1", "--checkpoint-every", "1"]
    options += ["--tensorboard", "--normalize-observations"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    cli.main(["train", "sac", "Pendulum-v1", "--out", str(whole), "--total-steps", "768", *options])
    cli.main(["train", "sac", "Pendulum-v1", "--out", str(parts), "--total-steps", "512", *options])
    shown = " ".join(capsys.readouterr().out.split())
    assert "A checkpoint holds the replay buffer as far as it is filled, 3 MB at most." in shown
    config = json.loads((parts / "config.json").read_text())
    assert (config["algorithm"], config["buffer_size"], config["tensorboard"]) == ("sac", 100_000, True)
    (parts / "config.json").write_text(json.dumps({**config, "total_steps": 768}))
    cli.main(["resume", str(parts)])
    assert {file.name for file in whole.iterdir()} == {file.name for file in parts.iterdir()}
    for name in ("policy.safetensors", "best.safetensors", "checkpoint.safetensors"):
        same_arrays(whole / name, parts / name)
    assert len(output_files.read_metrics(parts / "metrics.csv")) == 12


@pytest.mark.slow
def test_an_environment_of_a_users_module_is_trained_evaluated_and_resumed(tmp_path, monkeypatch, capsys):
    entry = "'gymnasium.envs.classic_control:PendulumEnv', max_episode_steps=50"
    (tmp_path / "my_module.py").write_text(f"import gymnasium\n\ngymnasium.register('Mine-v0', {entry})\n")
    monkeypatch.syspath_prepend(tmp_path)
    out, name = tmp_path / "run", "my_module:Mine-v0"
    options = ["--total-steps", "128", "--evaluation-episodes", "2", "--checkpoint-every", "1", *SHORT]
    cli.main(["train", "ppo", name, "--out", str(out), *options])
    assert "2 episodes, deterministic actions" in " ".join(capsys.readouterr().out.split())
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "total_steps": 192}))
    # A file does not get to import anything; its user does.
    assert "would import a module" in refused(capsys, "resume", str(out))
    assert "expected my_module:Mine-v0" in refused(capsys, "resume", str(out), "--environment", "Other-v0")
    cli.main(["resume", str(out), "--environment", name])
    assert [row["step"] for row in output_files.read_metrics(out / "metrics.csv")] == [64, 128, 192]


def test_cloning_trains_from_a_file_and_resumes_from_the_same_one_only(tmp_path, capsys):
    seen = np.random.default_rng(0).uniform(-1, 1, (256, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", observations=seen, actions=seen[:, :1])
    out, options = tmp_path / "run", ["--batch-size", "64", "--hidden-sizes", "8", "--num-epochs", "3"]
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
    assert "dataset: expected 2 observations and 1 actions a row, as the policy has, got 3 and 1" in line


@pytest.mark.slow
def test_evaluate_writes_the_first_episode_as_a_gif(tmp_path, capsys):
    pytest.importorskip("pygame")
    # Its greeting is no output of the command.
    capsys.readouterr()
    file, picture = saved(tmp_path, environment="Pendulum-v1")[0], tmp_path / "episode.gif"
    cli.main(["evaluate", str(file), "--episodes", "2"])
    plain = capsys.readouterr().out
    assert "were cut" not in plain
    cli.main(["evaluate", str(file), "--episodes", "2", "--max-steps", "150"])
    assert "2 of 2 episodes had not ended after 150 steps and were cut." in capsys.readouterr().out
    cli.main(["evaluate", str(file), "--episodes", "2", "--gif", str(picture)])
    # Watched or not, the episodes are the same.
    assert plain in (drawn := capsys.readouterr().out)
    assert "200 pictures" in " ".join(drawn.split())
    with Image.open(picture) as image:
        shown = [(image.seek(i), image.info["duration"])[1] for i in range(image.n_frames)]
    # Equal pictures in a row are kept as one that stays longer.
    assert sum(shown) == 200 * 30
    assert len(shown) > 20


def test_info_prints_what_a_file_holds_and_export_writes_programs(tmp_path, capsys, monkeypatch):
    from gaussjax.export import numpy_act

    monkeypatch.setenv("COLUMNS", "200")
    path, policy, params = saved(tmp_path, environment="Pendulum-v1")
    cli.main(["info", str(path)])
    shown = capsys.readouterr().out
    for part in ("metadata: environment", "Pendulum-v1", "version: jax", "params/params/head/mean/kernel", "(8, 1)"):
        assert part in shown
    cli.main(["export", str(path), "--format", "numpy"])
    said = " ".join(capsys.readouterr().out.split())
    assert "policy.npz, read by numpy_act.py beside it: observations float32['batch', 3] -> actions" in said
    assert "Training flattens observations that are not vectors; do so here with gymnasium.spaces.flatten." in said
    observations = np.ones((2, 3), np.float32)
    expected = policy.act(params, None, observations, deterministic=True).actions
    got = numpy_act.load(tmp_path / "policy.npz")(observations=observations)["actions"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors
from PIL import Image

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.cli import options, progress
from gaussjax.cli.errors import INTERRUPTED, own_pip
from gaussjax.training.run import output_files
from tests.cli.test_errors import SHORT, failed, refused, saved
from tests.interop import checkpoints
from tests.test_package import run


def command(*arguments):
    return [sys.executable, "-m", "gaussjax.cli.main", *arguments]


@pytest.mark.parametrize("words", [pytest.param("--help", marks=pytest.mark.slow), "train ppo --help"])
def test_a_reader_that_goes_away_is_no_error(words):
    with subprocess.Popen(command(*words.split()), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


LOADING = """
import runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "gaussjax.policy":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""
STARTED = {
    "script": "import gaussjax_command; gaussjax_command.main()",
    # As Python does for its option -m, while the first argument is the option itself.
    "module": "sys.argv = ['-m', '--version']; runpy._run_module_as_main('gaussjax.cli.main')",
}


@pytest.mark.parametrize("name", STARTED)
def test_an_interrupt_while_the_command_loads_is_answered_by_a_line(repository, name):
    finished = run(repository, "-c", LOADING + STARTED[name])
    assert finished.returncode == INTERRUPTED
    assert finished.stderr.strip() == "gaussjax: interrupted while it was loading; nothing was written."


def test_an_interrupt_is_answered_while_python_cannot_handle_it(capsys, monkeypatch):
    """A signal handler of Python waits for the end of compiled code; the answer does not."""
    seen = []
    monkeypatch.setattr(sys.stderr, "write", lambda text: seen.extend(text.split()) or len(text))

    def interrupt(answers):
        # By then the main thread is in compiled code.
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        while len(seen) - seen.count("handled") < 2 * answers:
            time.sleep(0.001)

    before = signal.signal(signal.SIGINT, lambda *_: seen.append("handled"))
    try:
        with progress.answer_interrupts("once", "twice"):
            threading.Thread(target=interrupt, args=(1,)).start()
            # One call of compiled code that takes about a second and lets other threads run.
            hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)
            assert seen[:3] == ["gaussjax:", "once", "handled"]
            interrupt(2)
            interrupt(3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [word for word in seen if word not in ("gaussjax:", "handled")] == ["once", "twice", "twice"]


@pytest.mark.parametrize("words", ["", "train", *options.COMMANDS])
def test_a_help_text_fits_80_columns_and_its_examples_are_commands(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([*words.split(), "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    # A screen of 24 lines also holds the prompt after the text.
    assert words in options.COMMANDS or len(text.splitlines()) <= 23
    examples = text.partition("examples:\n")[2].strip().partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    for example in examples:
        assert example.split()[0] == "gaussjax"
        assert isinstance(cli.parse(example.split()[1:]), tuple(options.COMMANDS.values()))


COMPLETED = {
    "gaussjax ev": {"evaluate"},
    "gaussjax train ": {"ppo", "sac", "bc"},
    "gaussjax train ppo --num": {"--num-envs", "--num-steps", "--num-epochs"},
    "gaussjax train ppo --backend g": {"gymnasium"},
    "gaussjax export --format ": {"stablehlo", "onnx", "numpy"},
}


def test_bash_completes_commands_options_and_choices(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--completion", "bash"])
    assert exit_.value.code == 0
    asked = "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _shtab_gaussjax; echo ${COMPREPLY[@]}"
    script = [capsys.readouterr().out]
    script += [f"COMP_WORDS=({line} {chr(39) * 2 * line.endswith(' ')}); {asked}" for line in COMPLETED]
    finished = subprocess.run(["bash"], input="\n".join(script), capture_output=True, text=True, check=True)
    assert [set(line.split()) for line in finished.stdout.splitlines()] == list(COMPLETED.values())


def test_a_line_names_the_pip_of_this_python(monkeypatch):
    text = "gaussjax: the command line needs rich: pip install 'gaussjax[train]'"
    for first, expected in (
        (str(Path(sys.executable).parent), text),
        ("", text.replace("pip install", f"{sys.executable} -m pip install")),
    ):
        monkeypatch.setenv("PATH", first)
        assert own_pip(text) == expected


def test_whole_numbers_of_all_forms_and_the_version(capsys):
    for text in ("200000", "2e5", "200_000", "2E+5", "200000.0"):
        command = cli.parse(["train", "ppo", "Pendulum-v1", "--total-steps", text, "--desired-kl", "none"])
        assert (command.config.total_steps, command.config.desired_kl) == (200_000, None)
    command = cli.parse(["train", "ppo", "--no_normalize_rewards", "Pendulum-v1", "--hidden-sizes=8"])
    assert (command.config.normalize_rewards, command.config.hidden_sizes) == (False, (8,))
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith(f"gaussjax {gaussjax.__version__} (jax ")


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


FILES = {"checkpoint.safetensors", "policy.safetensors", "metrics.csv", "config.json", "learning_curve.png"}


def test_sigterm_saves_the_policy_and_exits_with_130_and_resume_goes_on(tmp_path, capsys, monkeypatch):
    out, write = tmp_path / "run", output_files.MetricsFile.write

    def write_and_stop(self, row):
        write(self, row)
        if row["step"] % 192 == 0:
            signal.raise_signal(signal.SIGTERM if row["step"] == 192 else signal.SIGINT)

    monkeypatch.setattr(output_files.MetricsFile, "write", write_and_stop)
    words = ["train", "ppo", "Pendulum-v1", "--seed", "3", "--out", str(out), *SHORT]
    printed, errors = failed(capsys, *words, code=INTERRUPTED)
    assert errors == ""
    assert "Interrupted" in printed
    # Without a terminal, progress is printed as lines.
    assert "0 of 200,000 steps · compiling the first update" in printed
    assert "192 of 200,000 steps · " in printed
    assert "explained variance" in printed
    assert {file.name for file in out.iterdir()} - {"best.safetensors"} == FILES
    config = json.loads((out / "config.json").read_text())
    assert (config["environment"], config["seed"], config["num_envs"]) == ("Pendulum-v1", 3, 4)
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 192

    # Three updates more; the metrics go on where they were.
    printed, errors = failed(capsys, "resume", str(out), code=INTERRUPTED)
    assert "Interrupted: the running update, or its compilation, ends first" in errors
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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    out, name = Path("runs") / "my_module-Mine-v0-ppo-seed0", "my_module:Mine-v0"
    options = ["--total-steps", "128", "--evaluation-episodes", "2", "--checkpoint-every", "1", *SHORT]
    cli.main(["train", "ppo", name, *options])
    assert "2 episodes, deterministic actions" in " ".join(capsys.readouterr().out.split())
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "total_steps": 192}))
    # A file does not get to import anything; its user does.
    assert "would import a module" in refused(capsys, "resume", str(out))
    assert "expected my_module:Mine-v0" in refused(capsys, "resume", str(out), "--environment", "Other-v0")
    cli.main(["resume", str(out), "--environment", name])
    assert [row["step"] for row in output_files.read_metrics(out / "metrics.csv")] == [64, 128, 192]


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ("Box(-3.0, 3.0, (2,))", ""),
        pytest.param(
            "Box(-1.5, 1.5, (2,))", "mine:Env: step.observation: expected values from ", marks=pytest.mark.slow
        ),
    ],
)
def test_the_environment_of_the_page_trains_and_its_faults_are_printed(repository, tmp_path, space, says):
    page = (repository / "docs" / "environments.md").read_text()
    program = re.search(r"```python\n(# mine\.py\n.*?)```", page, re.DOTALL)
    assert program
    assert program[1].count("\n") <= 22
    (tmp_path / "mine.py").write_text(program[1].replace("Box(-3.0, 3.0, (2,))", space))
    words = "train ppo mine:Env --total-steps 128 --num-envs 2 --num-steps 32 --batch-size 32 --evaluation-episodes 2"
    done = run(repository, "-m", "gaussjax", *words.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "next: gaussjax evaluate runs/mine-Env-ppo-seed0 --environment mine:Env"
    assert "mine:Env: 2 episodes, deterministic actions" in " ".join(done.stdout.split())
    lines = [line for line in done.stdout.splitlines() if line.startswith("mine:Env: ") and "episodes" not in line]
    assert len(lines) == bool(says)
    assert all(line.startswith(says) for line in lines)
    saved = json.loads((tmp_path / "runs" / "mine-Env-ppo-seed0" / "config.json").read_text())
    assert saved["environment"] == "mine:Env"


@pytest.mark.slow
def test_a_recurrent_policy_on_a_users_jax_environment_is_trained_evaluated_and_resumed(tmp_path, monkeypatch, capsys):
    """Its actor and its critic see different entries of a dict."""
    (tmp_path / "my_probe.py").write_text(
        "from tests.training.jax_probes import asymmetric\n\n\ndef make():\n    return asymmetric(1.0)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = [*SHORT, "--network", "lstm", "--recurrent-size", "8", "--sequence-length", "8", "--evaluate-every", "2"]
    options += ["--evaluation-episodes", "2", "--checkpoint-every", "1", "--no-anneal-learning-rate"]
    for out, total in (("whole", "256"), ("parts", "128")):
        cli.main(["train", "ppo", "my_probe:make", "--out", out, "--total-steps", total, *options])
    cli.main(["resume", "parts", "--environment", "my_probe:make", "--total-steps", "256"])
    whole, parts = (Path(name) for name in ("whole", "parts"))
    for name in ("policy.safetensors", "best.safetensors", "checkpoint.safetensors"):
        same_arrays(whole / name, parts / name)
    rows, others = ([{**row, "steps_per_second": 0} for row in rows_of(folder)] for folder in (whole, parts))
    assert rows == others
    assert [row["evaluation_length"] for row in rows] == ["nan", "1.0", "nan", "1.0"]
    capsys.readouterr()
    cli.main(["evaluate", "parts", "--environment", "my_probe:make", "--episodes", "3"])
    assert "3 episodes, deterministic actions" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_evaluate_writes_the_first_episode_as_a_gif(tmp_path, capsys):
    pytest.importorskip("pygame")
    # Its greeting is no output of the command.
    capsys.readouterr()
    file, picture = saved(tmp_path, environment="Pendulum-v1")[0], tmp_path / "episode.gif"
    cli.main(["evaluate", str(file), "--episodes", "2"])
    plain = capsys.readouterr().out
    assert "were cut" not in plain
    assert "deterministic actions" in plain
    changes = []
    for words in ("", "--stochastic", "--stochastic --hold 8", "--stochastic --exploration colored"):
        cli.main(["evaluate", str(file), "--episodes", "2", *words.split()])
        line = " ".join((said := capsys.readouterr().out).split())
        assert ("sampled actions" in said) is bool(words)
        found = re.search(
            r"mean change of an action in a step: ([\d.e-]+) \(([\d.]+)% of half the Box's width\) "
            r"share of the actions' variance with periods below 4 steps: ([\d.]+)%",
            line,
        )
        changes.append(float(found[1]))
    assert changes[1] > 2.0 * max(changes[0], changes[2], 0.5 * changes[3])
    cli.main(["evaluate", str(file), "--episodes", "2", "--max-steps", "150"])
    assert "Episodes that were cut after 150 steps: 2 of 2." in capsys.readouterr().out
    cli.main(["evaluate", str(file), "--episodes", "2", "--gif", str(picture)])
    # Watched or not, the episodes are the same.
    assert plain in (drawn := capsys.readouterr().out)
    assert "200 pictures" in " ".join(drawn.split())
    with Image.open(picture) as image:
        shown = [(image.seek(i), image.info["duration"])[1] for i in range(image.n_frames)]
    # Equal pictures in a row are kept as one that stays longer.
    assert sum(shown) == 200 * 30
    assert len(shown) > 20


def test_convert_writes_a_policy_file_and_prints_the_settings_that_it_assumed(tmp_path, capsys):
    source, path = checkpoints.folder("rsl_rl") / "rsl_rl_5.5.1_elu.pt", tmp_path / "policy.safetensors"
    cli.main(["convert", str(source), "--from", "rsl_rl", "--out", str(path), "--options", "clip_actions=0.05"])
    said = " ".join(capsys.readouterr().out.split())
    assert "policy.safetensors: gaussian with MLP, 5 observations, 2 actions, with statistics" in said
    assert "The file does not say, and this was assumed: activation=elu, action_space=None, std_range=" in said
    assert "clip_actions" not in said
    loaded = gaussjax.load(path)
    numbers = checkpoints.numbers("rsl_rl", source.name, loaded)
    found = loaded.act(numbers.observations).actions
    np.testing.assert_allclose(found, numbers.actions.clip(-0.05, 0.05), rtol=0, atol=1e-6)
    assert loaded.metadata["assumptions"]["clip_actions"] == 0.05
    line = refused(capsys, "convert", str(source), "--from", "rsl_rl", "--out", str(path))
    assert line.endswith("policy.safetensors exists. Name another file with --out, or replace this one with --force.")


def test_info_prints_what_a_file_holds_and_export_writes_programs(tmp_path, capsys, monkeypatch):
    from gaussjax.export import numpy_act

    monkeypatch.setenv("COLUMNS", "200")
    path, policy, params = saved(tmp_path, environment="Pendulum-v1")
    cli.main(["info", str(path)])
    shown = capsys.readouterr().out
    for part in ("metadata: environment", "Pendulum-v1", "version: jax", "params/params/head/mean/kernel", "(8, 1)"):
        assert part in shown
    cli.main(["export", str(tmp_path), "--format", "numpy"])
    said = " ".join(capsys.readouterr().out.split())
    assert "policy.npz, read by numpy_act.py beside it: observations float32['batch', 3] -> actions" in said
    observations = np.ones((2, 3), np.float32)
    expected = policy.act(params, None, observations, deterministic=True).actions
    got = numpy_act.load(tmp_path / "policy.npz")(observations=observations)["actions"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    line = refused(capsys, "export", str(path), "--format", "numpy")
    assert line.endswith("policy.npz exists. Name another file with --out, or replace this one with --force.")
    itself = refused(capsys, "export", str(path), "--format", "numpy", "--out", str(path), "--force")
    assert "out: expected another file than the policy" in itself
    os.link(tmp_path / "policy.npz", tmp_path / "kept.npz")
    cli.main(["export", str(path), "--format", "numpy", "--stochastic", "--force"])
    assert numpy_act.load(tmp_path / "policy.npz").inputs != numpy_act.load(tmp_path / "kept.npz").inputs


@pytest.mark.parametrize(("program", "on_path"), [("gaussjax", True), ("a folder/.venv/bin/gaussjax", False)])
def test_the_next_command_can_be_typed_where_the_program_is_not_on_the_path(monkeypatch, tmp_path, program, on_path):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setenv("PATH", str(tmp_path))
    if on_path:
        (tmp_path / "gaussjax").touch(mode=0o755)
    expected = "gaussjax" if on_path else "'a folder/.venv/bin/gaussjax'"
    assert progress.typed("evaluate", Path("my runs")) == f"{expected} evaluate 'my runs'"

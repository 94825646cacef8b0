"""A run that was killed, damaged or finished goes on to its policy, or is refused in one line with the repair."""

import contextlib
import io
import json
import os
import shutil
import signal

import pytest

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.cli.errors import HUNG_UP, INTERRUPTED
from gaussjax.files import container
from gaussjax.training import run
from gaussjax.training.run import checkpoint, loop, output_files
from tests.cli.test_errors import SHORT, failed, refused, saved

TRAIN = ["train", "ppo", "Pendulum-v1", "--evaluation-episodes", "1", "--checkpoint-every", "1", *SHORT]
MADE = {}


@pytest.fixture
def finished(tmp_path, tmp_path_factory):
    """A new copy of a run that has reached its total, after 2 updates of 64 steps."""
    if not MADE:
        MADE["run"] = tmp_path_factory.mktemp("finished") / "run"
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main([*TRAIN, "--total-steps", "128", "--out", str(MADE["run"])])
    return shutil.copytree(MADE["run"], tmp_path / "run")


def policy_of(folder):
    """Tensors of the policy bit for bit, and the description of its file."""
    tensors, description = container.read(folder / run.POLICY)
    return {name: array.tobytes() for name, array in tensors.items()}, description


def steps_of(folder):
    return [int(row["step"]) for row in output_files.read_metrics(folder / run.METRICS)]


def resumed(folder, capsys, *options):
    """What a command prints that resumes a run to its end, as one line."""
    cli.main(["resume", str(folder), *options])
    out, errors = capsys.readouterr()
    assert errors == ""
    assert "mean return" in out
    return " ".join(out.split())


def test_a_training_killed_before_its_last_save_has_its_policy_from_the_checkpoint(finished, capsys):
    expected = policy_of(finished)
    (finished / run.POLICY).unlink()
    assert "at step 128 of 128" in resumed(finished, capsys)
    assert policy_of(finished) == expected
    assert steps_of(finished) == [64, 128]


def test_a_finished_run_is_extended(finished, capsys):
    line = refused(capsys, "resume", str(finished), "--total-steps", "100")
    assert line.startswith("gaussjax: total_steps: expected at least the 128 steps that are done, got 100.")
    assert "total_steps: expected at least 1, got 0." in refused(capsys, "resume", str(finished), "--total-steps", "0")
    assert "at step 128 of 256" in resumed(finished, capsys, "--total-steps", "256")
    assert json.loads((finished / run.CONFIG).read_text())["total_steps"] == 256
    assert gaussjax.load(finished / run.POLICY).metadata["steps"] == 256
    rows = output_files.read_metrics(finished / run.METRICS)
    assert [row["step"] for row in rows] == [64, 128, 192, 256]
    # The rate of the first update begins at the whole; an extended training anneals by the new total.
    assert [round(row["learning_rate"] / 1e-3, 4) for row in rows] == [1.0, 0.5, 0.5, 0.25]


@pytest.mark.slow
def test_a_training_killed_before_its_first_checkpoint_begins_anew(finished, capsys):
    expected = policy_of(finished)
    for path in finished.iterdir():
        if path.name not in (run.CONFIG, run.METRICS):
            path.unlink()
    assert "has no checkpoint yet: the training begins anew. Resuming" in resumed(finished, capsys)
    assert policy_of(finished) == expected
    assert steps_of(finished) == [64, 128]
    for name in (checkpoint.LATEST, checkpoint.PREVIOUS):
        (finished / name).unlink()
    assert "expected a checkpoint, got none. It was trained without" in refused(capsys, "resume", str(finished))
    assert policy_of(finished) == expected


@pytest.mark.slow
def test_a_run_keeps_its_initial_policy_and_goes_on_without_the_file(tmp_path, capsys):
    path, *_ = saved(tmp_path)
    out = tmp_path / "run"
    started = ["--initial-policy", str(path), "--critic-warmup", "1", "--total-steps", "128", "--out", str(out)]
    cli.main([*TRAIN, *started])
    expected = policy_of(out)
    path.unlink()
    (out / run.POLICY).unlink()
    (out / checkpoint.LATEST).unlink()
    # The second update is the first one that trains the policy.
    assert "Going on from the previous checkpoint. Resuming" in resumed(out, capsys)
    assert policy_of(out) == expected
    for name in (run.POLICY, checkpoint.LATEST, checkpoint.PREVIOUS):
        (out / name).unlink(missing_ok=True)
    assert "the training begins anew" in resumed(out, capsys)
    assert policy_of(out) == expected


@pytest.mark.slow
def test_a_training_killed_before_its_options_were_written_is_started_again(tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / loop.LOCK).write_text("of a dead owner")
    (out / f".{run.CONFIG}.writer-1.abc").write_text("half")
    assert "repeat the command that started it." in refused(capsys, "resume", str(out))
    cli.main([*TRAIN, "--total-steps", "64", "--out", str(out)])
    assert steps_of(out) == [64]


def test_a_run_in_use_is_refused(finished, capsys):
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with run.hold(finished):
        for option, command in (("folder", ["resume", str(finished)]), ("out", [*TRAIN, "--out", str(finished)])):
            line = refused(capsys, *command)
            assert line.startswith(f"gaussjax: {option}: {finished} is in use by process {os.getpid()} on ")
            assert line.endswith(" UTC. Wait for its end, or stop it.")
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def changed(**options):
    def change(folder):
        saved = json.loads((folder / run.CONFIG).read_text())
        (folder / run.CONFIG).write_text(json.dumps({**saved, **options}))

    return change


def lacking(name):
    def change(folder):
        saved = json.loads((folder / run.CONFIG).read_text())
        del saved[name]
        (folder / run.CONFIG).write_text(json.dumps(saved))

    return change


def written(name, payload):
    return lambda folder: (folder / name).write_bytes(payload)


def replaced(name, make):
    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    return change


def linked(folder):
    shutil.move(folder / run.METRICS, folder.parent / "outside.csv")
    (folder / run.METRICS).symlink_to(folder.parent / "outside.csv")


def without_checkpoints(folder):
    for name in (checkpoint.LATEST, checkpoint.PREVIOUS):
        (folder / name).write_bytes(b"nothing")


GOES_ON = {
    "metrics of NUL bytes": (written(run.METRICS, bytes(100) + b"\n"), "no names of metrics in its first line"),
    "metrics in another encoding": (written(run.METRICS, b"\xff\xfe\n\x80\n"), "it is kept as metrics.csv.damaged."),
    "metrics that are a folder": (replaced(run.METRICS, os.mkdir), "metrics.csv cannot be read"),
    "metrics that are a pipe": (replaced(run.METRICS, os.mkfifo), "metrics.csv cannot be read"),
    "metrics without a file": (lambda folder: (folder / run.METRICS).unlink(), "at step 128 of 128"),
    "empty metrics": (written(run.METRICS, b""), "at step 128 of 128"),
    "metrics behind a link": (linked, "at step 128 of 128"),
    "policy that is a folder": (replaced(run.POLICY, os.mkdir), "policy.safetensors is not a regular file: it is kept"),
    "picture that is a folder": (replaced(output_files.CURVE, os.mkdir), "it is kept as learning_curve.png.damaged."),
    "checkpoint that is a folder": (replaced(checkpoint.LATEST, os.mkdir), "missing. Going on from the previous"),
    "checkpoint that is a pipe": (replaced(checkpoint.LATEST, os.mkfifo), "missing. Going on from the previous"),
    "no options": (lambda folder: (folder / run.CONFIG).unlink(), "The options are from the checkpoint. Resuming"),
    "empty options": (written(run.CONFIG, b""), "from the checkpoint. The file is kept as config.json.damaged."),
    "options of NUL bytes": (written(run.CONFIG, bytes(9)), "The options are from the checkpoint."),
    "options in another encoding": (written(run.CONFIG, b"\xff\xfe\xfd"), "The options are from the checkpoint."),
    "options nested too deep": (written(run.CONFIG, b"[" * 10**5), "The options are from the checkpoint."),
    "options that are a list": (written(run.CONFIG, b"[1]"), "expected a dict of options, got list"),
    "options that are a folder": (replaced(run.CONFIG, os.mkdir), "The options are from the checkpoint."),
    "options that are a pipe": (replaced(run.CONFIG, os.mkfifo), "The options are from the checkpoint."),
    "options without one": (lacking("gamma"), "at step 128 of 128"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "empty options" else pytest.mark.slow) for n in GOES_ON]
)
def test_damage_beside_a_whole_checkpoint_does_not_block_it(name, finished, capsys):
    change, says = GOES_ON[name]
    expected, options = policy_of(finished), json.loads((finished / run.CONFIG).read_text())
    change(finished)
    assert says in resumed(finished, capsys)
    assert policy_of(finished) == expected
    assert not (finished / run.METRICS).is_symlink()
    assert {**options, **json.loads((finished / run.CONFIG).read_text())} == options


REFUSED = {
    "number of text": (changed(num_envs="4"), "num_envs: expected 4 as in the checkpoint, got '4'). Correct it, or"),
    "more environments": (changed(num_envs=10**9), "num_envs: expected 4 as in the checkpoint, got 1000000000"),
    "another environment": (changed(environment="Ant-v5"), "environment: expected 'Pendulum-v1' as in the check"),
    "another algorithm": (changed(algorithm="trpo"), "algorithm: expected 'ppo' as in"),
    "other widths": (changed(hidden_sizes=[10**9]), "hidden_sizes: expected [64, 64] as in the checkpoint"),
    "seed of text": (changed(seed="x"), "seed: expected a whole number, got 'x'"),
    "rate that is not finite": (changed(learning_rate=float("inf")), "learning_rate: expected a finite number"),
    "flag of text": (changed(tensorboard="yes"), "tensorboard: expected bool, got 'yes'). Correct it, or remove"),
    "activation of a list": (changed(activation=[]), "activation"),
    "damaged checkpoints": (without_checkpoints, "checkpoint.safetensors: expected a file written by gaussjax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_do_not_fit_are_refused_in_one_line(name, finished, capsys):
    change, says = REFUSED[name]
    change(finished)
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    line = refused(capsys, "resume", str(finished), code=1 if name == "damaged checkpoints" else 2)
    assert says in line
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["gymnasium", "jax"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, HUNG_UP), (signal.SIGTERM, INTERRUPTED)])
def test_a_signal_saves_and_the_resumed_run_is_the_uninterrupted_one(
    backend, number, code, tmp_path, capsys, monkeypatch
):
    options = [*TRAIN, "--backend", backend, "--total-steps", "256"]
    cli.main([*options, "--out", str(tmp_path / "whole")])
    before, write = signal.getsignal(number), output_files.MetricsFile.write

    def write_and_stop(self, row):
        write(self, row)
        if row["step"] == 128:
            signal.raise_signal(number)
            if number == signal.SIGHUP:
                # A terminal that is closed may send a second one.
                signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(output_files.MetricsFile, "write", write_and_stop)
        assert "Interrupted: " in failed(capsys, *options, "--out", str(tmp_path / "parts"), code=code)[0]
    signal.signal(number, before)
    assert gaussjax.load(tmp_path / "parts" / run.POLICY).metadata["steps"] == 128
    resumed(tmp_path / "parts", capsys)
    assert policy_of(tmp_path / "whole") == policy_of(tmp_path / "parts")

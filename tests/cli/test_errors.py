"""A command that cannot be carried out says why and exits with 2; one that breaks off exits with 1."""

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import zlib

import gymnasium
import jax
import numpy as np
import pytest

import gaussjax
from gaussjax.cli import main as cli
from gaussjax.cli import options
from gaussjax.cli.options import Info
from tests.training import probes

# The options of the example in the docstring of `ppo.make`, so that both share their compiled programs.
SHORT = ["--num-envs", "4", "--num-steps", "16", "--batch-size", "32", "--num-epochs", "1"]


def failed(capsys, *arguments, code=2) -> tuple[str, str]:
    """Standard output and standard error of a command that fails with this exit code."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == code
    return capsys.readouterr()


def refused(capsys, *arguments, code=2) -> str:
    """The one line on standard error of a command that fails with this exit code."""
    lines = failed(capsys, *arguments, code=code)[1].splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def saved(folder, **metadata):
    """Path of the file of a new policy for the pendulum, the policy and its parameters."""
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-2.0, 2.0, (1,)), clip_actions=True)
    params, path = policy.init(jax.random.key(0)), folder / "policy.safetensors"
    gaussjax.save(path, policy, params, metadata=metadata)
    return path, policy, params


def test_existing_folder_is_refused_and_left_alone(tmp_path, capsys):
    (tmp_path / "kept").write_text("mine")
    line = refused(capsys, "train", "ppo", "Pendulum-v1", "--out", str(tmp_path))
    assert line == f"gaussjax: out: {tmp_path} exists. Name another folder with --out, or remove this one."
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_an_initial_policy_for_another_environment_is_refused(tmp_path, capsys):
    path, *_ = saved(tmp_path)
    line = refused(capsys, "train", "ppo", "MountainCarContinuous-v0", "--initial-policy", str(path))
    assert line.startswith("gaussjax: initial_policy: expected the observation space of the environments, ")
    assert line.endswith("Make the policy with the spaces of the environments, or wrap the environments.")


# Each line with words of the one line that answers it. {json} is a file, {folder} an empty folder.
WRONG = [
    ("", "command: expected one of train, resume, evaluate, record, info, export, convert, got none. See"),
    ("trian ppo Pendulum-v1", "got 'trian'. Did you mean 'train'?"),
    ("--seed 3 train ppo", "command: expected one of train, resume, evaluate, record, info, export, convert, got '--s"),
    ("--completion fsh", "completion: expected one of ['bash', 'fish', 'tcsh', 'zsh'], got 'fsh'. Did you mean 'fish"),
    ("train", "algorithm: expected one of ppo, sac, bc, got none."),
    ("train trpo Pendulum-v1", "algorithm: expected one of ppo, sac, bc, got 'trpo'. See gaussjax --help."),
    ("train ppo", "expected ENVIRONMENT, got none. See gaussjax train ppo --help."),
    ("train ppo Pendulum-v1 twice", "expected no further arguments, got twice."),
    ("train bc", "expected ENVIRONMENT and --dataset, got none."),
    ("train bc Pendulum-v1", "expected --dataset, got none."),
    ("train ppo Pendulum-v1 --num-env 3", "Did you mean '--num-envs'?"),
    ("train ppo --gama 0.9 Pendulum-v1", "--gama: expected an option of train ppo, got an unknown one. Did you"),
    ("train ppo Pendulum-v1 --lr 3", "Did you mean '--learning-rate'?"),
    ("train ppo Pendulum-v1 --sizes 0", "Did you mean '--hidden-sizes'?"),
    ("train ppo Pendulum-v1 -s 3", "-s: expected an option of train ppo, got an unknown one."),
    ("train ppo Pendulum-v1 --buffer-size 9", "--buffer-size: expected an option of train ppo, got one of train sac."),
    ("train sac Pendulum-v1 --dataset a", "--dataset: expected an option of train sac, got one of train bc."),
    ("train ppo Pendulum-v1 --tensorboard=3", "--tensorboard: expected no value, got '3'."),
    ("train ppo Pendulum-v1 --seed", "--seed: expected a value, got none."),
    ("train ppo Pendulum-v1 --seed=", "seed: expected INT, got ''."),
    ("train ppo Pendulum-v1 --num-envs x", "num_envs: expected a whole number, got 'x'."),
    ("train ppo Pendulum-v1 --num-envs nan", "num_envs: expected a whole number, got 'nan'."),
    ("train ppo Pendulum-v1 --total-steps 1.5", "total_steps: expected a whole number, got '1.5'."),
    ("train ppo Pendulum-v1 --total-steps 1e999999999", "total_steps: expected a whole number, got '1e999999999'."),
    ("train ppo Pendulum-v1 --total_steps 3_000_000_000", "total_steps: expected less than 2**31"),
    ("train ppo Pendulum-v1 --total-steps -1e3", "total_steps: expected at least 1, got -1000."),
    ("train ppo Pendulum-v1 --gamma x", "gamma: expected a number, got 'x'."),
    ("train ppo Pendulum-v1 --gamma -inf", "gamma: expected a finite number of float32, got -inf."),
    ("train ppo Pendulum-v1 --learning-rate 1e300", "learning_rate: expected a finite number of float32, got 1e+300."),
    ("train ppo Pendulum-v1 --hidden-sizes 0", "hidden_sizes: expected at least 1, got 0."),
    ("train sac Pendulum-v1 --hidden-sizes 64 0", "hidden_sizes: expected at least 1, got 0."),
    ("train ppo Pendulum-v1 --hidden-sizes -3 4", "hidden_sizes: expected at least 1, got -3."),
    ("train ppo Pendulum-v1 --hidden-sizes 2000000000", "hidden_sizes: expected a training that fits into the"),
    ("train sac Pendulum-v1 --buffer-size 1e9 --num-critics 1", "buffer_size: expected a training that fits into the"),
    ("train ppo Pendulum-v1 --num-envs 1e9 --num-steps 1", "num_envs: expected at most 1,048,576 environments"),
    ("train ppo Pendulum-v1 --num-steps 2e9", "num_steps: expected fewer than 2**31 samples in an update"),
    ("train ppo Pendulum-v1 --num-steps 100000000 --batch-size 199999999", "Choose one such as 160000000."),
    ("train ppo Pendulm-v1", "environment: expected a name that Gymnasium knows, got 'Pendulm-v1'. Did you mean 'Pend"),
    ("train ppo Pendulum-v7", "expected a version that can be made, got 'Pendulum-v7' ("),
    ("train ppo Pendulum-v0", "Did you mean 'Pendulum-v1'?"),
    ("train ppo HalfCheetah-v2", "gymnasium-robotics)). Did you mean 'HalfCheetah-v5'?"),
    ("train ppo Ant-v3", "Did you mean 'Ant-v5'?"),
    ("train ppo GymV21Environment-v0", "expected GymV21Environment-v0 to be made, got ImportError: To use the gym"),
    ("train ppo a/b/c-v1", "environment: Malformed environment ID: a/b/c-v1."),
    ("train ppo nomod:Reach-v0", "environment: expected the module nomod of nomod:Reach-v0 in the folder"),
    ("train ppo :Reach-v0", "environment: expected :Reach-v0 to be made, got ValueError: Empty module name."),
    ("train ppo ''", "environment: expected ENVIRONMENT, got ''."),
    ("train ppo CartPole-v1", "action_space: expected a Box, got Discrete(2)"),
    ("train ppo Pendulum-v1 --batch-size 100", "gaussjax: batch_size: expected a divisor of"),
    ("train ppo Pendulum-v1 --batch-size 300", "Choose one such as 256."),
    ("train ppo Pendulum-v1 --num-envs 0", "gaussjax: num_envs: expected at least 1, got 0."),
    ("train ppo Pendulum-v1 --learning-rate -1", "learning_rate: expected a number above 0, got -1.0."),
    ("train ppo Pendulum-v1 --evaluation-episodes 0", "gaussjax: evaluation_episodes: expected at least 1"),
    ("train ppo Pendulum-v1 --max-skipped 0", "gaussjax: max_skipped: expected at least 1, got 0."),
    ("train ppo Pendulum-v1 --timeout -1", "gaussjax: timeout: expected a number above 0, got -1.0."),
    ("train ppo Pendulum-v1 --timeout inf", "gaussjax: timeout: expected a finite number of float32, got inf."),
    ("train ppo Pendulum-v1 --seed -20000", "seed: expected a number from 0 to 2**32 - 1, got -20000."),
    ("train ppo Pendulum-v1 --seed 4294967296", "seed: expected a number from 0 to 2**32 - 1, got 4294967296."),
    ("train ppo Pendulum-v1 --entropy-coefficient nan", "entropy_coefficient: expected a finite number"),
    ("train ppo Pendulum-v1 --checkpoint-every -1", "checkpoint_every: expected 0 or more, got -1."),
    ("train ppo Pendulum-v1 --desired-kl 0", "desired_kl: expected a number above 0, got 0.0."),
    ("train ppo Pendulum-v1 --gamma 1.5", "gamma: expected a number from 0 to 1, got 1.5."),
    ("train ppo Pendulum-v1 --std gSDE", "got 'gSDE'. Did you mean 'gsde'?"),
    ("train ppo Pendulum-v1 --policy trunc", "got 'trunc'. Did you mean 'truncated_gaussian'?"),
    ("train ppo Pendulum-v1 --activation rellu", "got 'rellu'. Did you mean 'relu'?"),
    ("train ppo Pendulum-v1 --network lsmt", "got 'lsmt'. Did you mean 'lstm'?"),
    ("train ppo Pendulum-v1 --exploration held", "hold: expected a number of steps for exploration='held', got None."),
    ("train sac Pendulum-v1 --exploration colored --hold 8", "hold: expected None for exploration='colored'"),
    ("train sac Pendulum-v1 --beta 1", "beta: expected None without exploration='colored', got 1.0. Leave it"),
    ("train ppo Pendulum-v1 --exploration colored --beta 3", "beta: expected a number above 0 and at most 2, got 3.0."),
    ("train bc Pendulum-v1 --dataset a.npz --hold 8", "--hold: expected an option of train bc, got one of train ppo"),
    ("train ppo Pendulum-v1 --out {json}", "exists. Name another folder with --out, or remove this one."),
    ("train ppo Pendulum-v1 --out ''", "out: expected PATH, got ''."),
    ("train ppo MountainCarContinuous-v0 --backend jax", "as JAX functions (Pendulum-v1), got"),
    ("train ppo Pendulum-v1 --distributed a:1,2,2", "expected local, auto or COORDINATOR:PORT,PROCESSES"),
    (
        "train sac Pendulum-v1 --total-steps 1500",
        "learning_starts: expected fewer than the total_steps = 1500, got 5000: nothing would be learnt.",
    ),
    ("train ppo Pendulum-v1 --initial-policy no-such-file", "initial_policy: no-such-file cannot be read (No such"),
    ("train ppo Pendulum-v1 --initial-policy {folder}", "initial_policy: expected a policy file, or the folder of a"),
    (
        "train ppo Pendulum-v1 --initial-policy a --hidden-sizes 64 64",
        "hidden_sizes: expected none with initial_policy, whose file decides it, got (64, 64). Leave it out.",
    ),
    ("train ppo Pendulum-v1 --critic-warmup=-1", "critic_warmup: expected 0 or more updates, got -1."),
    ("train sac Pendulum-v1 --initial-policy a", "expected an option of train sac, got one of train ppo."),
    ("train bc Pendulum-v1 --dataset no-such-file", "dataset: no-such-file cannot be read (No such file"),
    ("train bc Pendulum-v1 --dataset {folder}", "cannot be read (Is a directory)."),
    ("evaluate policy.safetensors --seed -1", "gaussjax: seed: expected a number from 0 to 2**63 - 1, got -1."),
    ("evaluate policy.safetensors --seed 99999999999999999999999", "seed: expected a number from 0 to 2**63 - 1, got"),
    ("evaluate policy.safetensors --episodes 0", "gaussjax: episodes: expected at least 1, got 0."),
    ("evaluate policy.safetensors --episodes 1e10", "gaussjax: episodes: expected less than 2**31"),
    ("evaluate no-such-file --hold 8", "hold: expected none for deterministic actions. Add --stochastic to sample."),
    ("evaluate no-such-file --exploration colored", "exploration: expected none for deterministic actions."),
    ("evaluate no-such-file --stochastic --hold 0", "hold: expected at least 1, got 0."),
    ("evaluate no-such-file --gif no-such/a.gif", "gif: expected an existing folder, got no-such"),
    ("evaluate no-such-file --gif a.mp4", "gif: expected a name that ends in .gif, got a.mp4."),
    ("evaluate no-such-file", "file: no-such-file cannot be read (No such file or directory)."),
    ("evaluate no-such-file/policy", "file: no-such-file/policy cannot be read (No such file or directory)."),
    ("evaluate {folder}", "got the folder {folder}, which has no .safetensors file. Name a file."),
    ("record --out a.npz", "file: expected a policy, or an environment with --uniform. Name one of them."),
    ("record no-such-file --uniform Pendulum-v1 --out a.npz", "file: expected a policy, or an environment with --unif"),
    ("record no-such-file", "out: expected a new file, or the name of a dataset with --minari. Name one of them."),
    ("record no-such-file --out a.npz --minari a/b-v0", "out: expected a new file, or the name of a dataset with"),
    ("record no-such-file --out a.csv", "out: expected a name that ends in .npz, .hdf5 or .h5, got a.csv."),
    (
        "record no-such-file --out {folder}/no/a.npz",
        "out: expected an existing folder, got {folder}/no. Make it first.",
    ),
    ("record no-such-file --out a.npz", "file: no-such-file cannot be read (No such file or directory)."),
    (
        "record --uniform Pendulum-v1 --stochastic --out a.npz",
        "uniform: expected no --stochastic and no --environment.",
    ),
    (
        "record --uniform CartPole-v1 --out a.npz",
        "environment: CartPole-v1 cannot be recorded: action_space: expected a Box, got",
    ),
    (
        "record --uniform Pendulum-v9 --out a.npz",
        "environment: expected a version that can be made, got",
    ),
    ("record --uniform Pendulum-v1 --minari 'no name'", "minari: expected a name with a version such as"),
    ("info no-such-file", "file: no-such-file cannot be read (No such file or directory). Name an existing file."),
    ("info {folder}", "file: expected a policy file, or the folder of a training with its policy.safetensors"),
    ("export no-such-file --format numpy", "file: no-such-file cannot be read"),
    ("convert no-such-file --from rsl_rl", "file: no-such-file cannot be read"),
    ("convert {json} --from rsl_rl --options activtion=relu", "options: name for rsl_rl: expected one of"),
    ("convert {json} --from rsl_rl --options activation", "options: expected NAME=VALUE"),
    ("convert {json} --from brax", "expected a checkpoint of brax that holds arrays alone"),
    ("convert {json} --from skrl", "gaussjax: from: expected one of ['brax', 'cleanrl', 'rsl_rl', 'sb3'], got 'skrl'."),
    ("convert {json} --from rsl_rl --out {folder}", "exists. Name another file with --out."),
    ("export no-such-file --format pickle", "format: expected one of ['numpy', 'onnx', 'stablehlo'], got 'pickle'."),
    ("export no-such-file", "expected --format, got none. See gaussjax export --help."),
    ("export no-such-file --format numpy --out {folder}", "exists. Name another file with --out."),
    ("export no-such-file --format numpy --out {json}", "with --out, or replace this one with --force."),
    ("resume no-such-folder", "folder: no-such-folder is not a training folder (No such file or directory"),
    ("resume {json}", "is not a training folder (Not a directory"),
]


@pytest.mark.parametrize(("line", "says"), WRONG)
def test_wrong_commands_get_one_line_and_exit_code_2(line, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"json": tmp_path / "notes.json", "folder": tmp_path / "empty"}
    places["json"].write_text('{"a": 1}')
    places["folder"].mkdir()
    filled = line.format(**places)
    assert says.format(**places) in refused(capsys, *shlex.split(filled))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "notes.json"]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nosuchthing", "ModuleNotFoundError in {file}, line 2: No module named 'nosuchthing'. Correct "),
        ("def broken(:", "SyntaxError in {file}, line 2: invalid syntax. Correct the module."),
        ("raise KeyError('arm')", "KeyError in {file}, line 2: 'arm'. Correct the module."),
        ("raise SystemExit(0)", "SystemExit in {file}, line 2: 0. Correct the module."),
        ("gymnasium.register('Arm-v0', 'math:sin')", "to be made, got TypeError"),
        ("gymnasium.register('Other-v0', 'math:sin')", "expected a name that Gymnasium knows, got '{name}:Arm-v0'."),
    ],
)
def test_an_error_in_the_users_module_names_its_file_and_line(source, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    name = f"arm{zlib.crc32(source.encode())}"
    file = tmp_path / f"{name}.py"
    file.write_text(f"import gymnasium\n{source}\n")
    line = refused(capsys, "train", "ppo", f"{name}:Arm-v0")
    assert line.startswith("gaussjax: environment: expected ")
    assert says.format(file=file, name=name) in line


@pytest.mark.slow
def test_random_wrong_commands_get_one_line(tmp_path, capsys, monkeypatch, record_bar):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    rng = random.Random(0)
    # None can be used, and the folder of the results exists: no command has anything to do, whatever its options are.
    arguments = ["NoSuch-v0", "Pendulum-v1", "HalfCheetah-v3", "no_module:X-v0", "notes.json", "no-such-file", "a/b/c"]
    arguments += ["", "-1", "\0", "\n"]
    values = ["0", "-3", "1e6", "1_0", "1.5", "nan", "-inf", "1e999", "9" * 5000, "None", "x", "🤖", "--", "-"]
    values += ["", " ", "\x1b[31m"]
    words = [*options.COMMANDS, "train", "trian", "trainppo", "--version1", ""]
    names = sorted({option.word for kind in options.COMMANDS.values() for option in options.all_fields(kind)})
    silent = []
    for _ in range(2000):
        line = [*rng.choice(words).split(), rng.choice(arguments)]
        for _ in range(rng.randrange(4)):
            name = rng.choice(names)
            line += [rng.choice([name, name, name[:-1], name.replace("-", "_"), f"{name}={rng.choice(values)}"])]
            line += rng.sample(values, rng.randrange(3))
        with pytest.raises(SystemExit) as exit_:
            cli.main([*line, "--out", "notes.json"] if "Pendulum-v1" in line else line)
        error = capsys.readouterr().err
        if exit_.value.code not in (1, 2) or not error.startswith("gaussjax: ") or error.count("\n") != 1:
            silent.append((line, exit_.value.code, error))
        assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]
    record_bar("command line", "random wrong commands, not answered by one line", 2000, len(silent), 0)
    assert silent == []


def test_policy_of_another_environment_is_refused(tmp_path, capsys):
    path = saved(tmp_path)[0]
    line = refused(capsys, "evaluate", str(path), "--environment", "MountainCarContinuous-v0")
    assert "expected (..., 3), got (20, 2)" in line
    assert "names no environment. Name one with --environment." in refused(capsys, "evaluate", str(path))
    assert "policy.safetensors names no environment." in refused(capsys, "evaluate", str(tmp_path))
    assert f"{tmp_path} has policy.safetensors." in refused(capsys, "info", str(tmp_path / "other"))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, "train", "ppo", "Pendulum-v1", *SHORT, "--out", str(tmp_path / "file" / "run"))
    assert line == f"gaussjax: out: {tmp_path / 'file' / 'run'} cannot be made (Not a directory). Name another folder."


def hot(observation):
    raise RuntimeError("the motor is hot")


def stop(observation):
    return next(iter(()))


def leave(observation):
    os._exit(0)


def hang(observation):
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGALRM)
    while True:
        try:
            signal.pause()
        except:  # noqa: E722
            continue


# What an environment does with the observation of its 72nd step, and the line that the user gets.
DOES = {
    hot: "at step 72, got RuntimeError: the motor is hot.",
    stop: "at step 72, got StopIteration.",
    leave: "at step 72, got a call of os._exit: code 0.",
    hang: "expected an answer to step 72 within 300 s, got none.",
    (lambda observation: observation * np.nan): "expected a finite observation at step 72",
    (lambda observation: observation[:2]): "expected an observation of shape (3,) at step 72, got (2,)",
}


@pytest.mark.parametrize(
    "does", [pytest.param(does, marks=pytest.mark.slow if i else ()) for i, does in enumerate(DOES)]
)
def test_training_on_an_environment_at_fault_saves_its_policy(does, tmp_path, capsys, monkeypatch):
    closed = []

    class Breaks(probes.Swings, probes.Counter):
        def __init__(self):
            super().__init__(1000)

        def step(self, action):
            observation, *rest = super().step(action)
            return does(observation) if self._steps == 72 else observation, *rest

        def get_state(self):
            if self._steps >= 71:
                raise OverflowError
            return {"steps": self._steps}

        def set_state(self, state):
            self._steps = state["steps"]

        def close(self):
            closed.append(self)
            raise RuntimeError("stuck")

    monkeypatch.chdir(tmp_path)
    with probes.registered(Breaks) as name:
        command = ["train", "ppo", name, "--out", "run", *SHORT, "--checkpoint-every", "3"]
        printed, line = failed(capsys, *command, code=1)
    assert "Stopped: the policy so far is run/policy.safetensors. Go on with: gaussjax resume run" in printed
    assert line.startswith("gaussjax: environment 0 (")
    assert line.count("\n") == 1
    assert f"{__file__}, line " in line
    assert DOES[does] in line
    # Four updates of 16 steps in 4 environments were whole, the last one after the checkpoint.
    assert gaussjax.load("run/policy.safetensors").metadata["steps"] == 256
    assert len(closed) >= 4


@pytest.mark.slow
def test_an_environment_that_leaves_things_behind_ends_with_its_policy(tmp_path, repository):
    """Its thread keeps the process alive, it changes the folder, and it cannot be closed."""
    (tmp_path / "messy.py").write_text(
        """
import os, threading
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

class Messy(PendulumEnv):
    def __init__(self, **options):
        super().__init__(**options)
        os.chdir("/")
        threading.Thread(target=threading.Event().wait).start()

    def step(self, action):
        os.chdir("/")
        return super().step(action)

    def close(self):
        raise OSError("no such port")

gymnasium.register("Messy-v0", Messy, max_episode_steps=20)
"""
    )
    words = [
        "train",
        "ppo",
        "messy:Messy-v0",
        "--out",
        "run",
        *SHORT,
        "--total-steps",
        "64",
        "--evaluation-episodes",
        "1",
    ]
    path = os.pathsep.join([str(repository), str(tmp_path)])
    ended = subprocess.run(
        [sys.executable, "-m", "gaussjax.cli.main", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    closing, threads = ended.stderr.splitlines()
    assert re.search(
        r"^gaussjax: environment 0 \(.*messy\.py, line 17\): .* at close, got OSError: no such port\.", closing
    )
    assert re.search(r"^gaussjax: environment: expected no running threads at the end, got Thread-\d+", threads)
    assert gaussjax.load(tmp_path / "run" / "policy.safetensors").metadata["steps"] == 64


def test_results_that_cannot_be_written_end_in_one_line(tmp_path, capsys):
    out = tmp_path / "run"

    class Removes(probes.Swings, probes.Counter):
        def step(self, action):
            shutil.rmtree(out, ignore_errors=True)
            return super().step(action)

    with probes.registered(lambda: Removes(50)) as name:
        command = ["train", "ppo", name, "--out", str(out), *SHORT, "--checkpoint-every", "1"]
        printed, line = failed(capsys, *command, code=1)
    assert "No learning curve: [Errno 2]" in printed
    assert line.startswith("gaussjax: [Errno 2] No such file or directory")
    assert line.count("\n") == 1


def test_another_pipe_that_breaks_is_not_passed_over(capsys, monkeypatch):
    def broken(_):
        raise BrokenPipeError("of an environment")

    monkeypatch.setitem(cli._RUN, Info, broken)
    line = refused(capsys, "info", "policy.safetensors", code=1)
    assert line == "gaussjax: of an environment"

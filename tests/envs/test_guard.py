"""Environments that raise, exit, hang or return NaN: the error names the environment, and the training is saved."""

import contextlib
import os
import shutil
import signal
import sys

import gymnasium
import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import rollout
from gaussjax.cli import main as cli
from tests.training import probes

# Seconds; no test waits for them.
LIMIT = 1200


class Faulty(probes.Bandit):
    """An environment that calls a function at its third step."""

    def __init__(self, does=None):
        self.does, self.steps = does, 0

    def step(self, action):
        self.steps += 1
        if self.does and self.steps == 3:
            self.does()
        return super().step(action)


def divide():
    return 1 / 0


def hang():
    """The time limit runs out at once: the alarm that is set rings."""
    assert 0.0 < signal.getitimer(signal.ITIMER_REAL)[0] <= LIMIT
    # As careless environments do.
    with contextlib.suppress(Exception):
        signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (
            divide,
            r"^environment 2: expected an observation at step 3, got ZeroDivisionError: division by zero\. Correct",
        ),
        (sys.exit, r"^environment 2: expected an observation at step 3, got SystemExit\. Correct"),
        (hang, r"^environment 2: expected an answer to step 3 within 1200 s, got none\. The environment hangs"),
    ],
    ids=["raises", "exits", "hangs"],
)
def test_environment_at_fault_is_named_with_its_step(does, says):
    environments = probes.vector_of([Faulty, Faulty, lambda: Faulty(does), Faulty])
    runner = rollout.Runner(environments)
    runner.timeout = LIMIT
    runner.reset(0)
    for _ in range(2):
        runner.step(np.zeros((4, 1)))
    with pytest.raises(rollout.EnvironmentStepError, match=says):
        runner.step(np.zeros((4, 1)))


@pytest.mark.parametrize("does", [divide, sys.exit, hang])
def test_environment_at_fault_in_its_reset_is_named(does):
    class Unborn(probes.Bandit):
        def reset(self, **options):
            does()
            return super().reset(**options)

    runner = rollout.Runner(probes.vector(Unborn, 2))
    runner.timeout = LIMIT
    with pytest.raises(rollout.EnvironmentStepError, match=r"^environment 0: expected an .* reset(,| within)"):
        runner.reset(0)


def test_evaluation_has_a_time_limit_too():
    class Hangs(probes.Bandit):
        def step(self, action):
            hang()

    gymnasium.register("gaussjax-test/Hangs-v0", Hangs)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 1, gaussjax.spaces.Box(-1.0, 1.0, (1,)))
    params = policy.init(jax.random.key(0))
    try:
        with pytest.raises(rollout.EnvironmentStepError, match=r"within 1200 s, got none"):
            rollout.evaluate(policy, params, "gaussjax-test/Hangs-v0", episodes=1, timeout=LIMIT)
    finally:
        del gymnasium.registry["gaussjax-test/Hangs-v0"]


def test_time_limit_is_lifted_after_each_step():
    runner = rollout.Runner(probes.vector(Faulty, 2))
    runner.timeout = LIMIT
    runner.reset(0)
    runner.step(np.zeros((2, 1)))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("does", ["raises", "returns NaN"])
def test_training_saves_its_policy_and_exits_with_1(does, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    closed = []

    class Breaks(probes.Counter):
        def __init__(self):
            super().__init__(50, 40 if does == "returns NaN" else None)

        def step(self, action):
            if does == "raises" and self._steps == 39:
                raise RuntimeError("the motor is hot")
            return super().step(action)

        def get_state(self):
            if self._steps == 39:
                raise OverflowError
            return {"steps": self._steps}

        def set_state(self, state):
            self._steps = state["steps"]

        def close(self):
            closed.append(self)

    gymnasium.register("gaussjax-test/Breaks-v0", Breaks)
    out = tmp_path / "run"
    options = ["--num-envs", "2", "--num-steps", "8", "--batch-size", "16", "--num-epochs", "1", "--hidden-sizes", "8"]
    options += ["--checkpoint-every", "3"]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["train", "ppo", "gaussjax-test/Breaks-v0", "--out", str(out), *options])
    finally:
        del gymnasium.registry["gaussjax-test/Breaks-v0"]
    assert exit_.value.code == 1
    told, line = capsys.readouterr()
    assert f"Stopped: the policy so far is {out / 'policy.safetensors'}. Go on with: gaussjax resume {out}" in told
    expected = "got RuntimeError: the motor is hot." if does == "raises" else "expected a finite observation at step 40"
    assert "environment 0: " in line
    assert expected in line
    # Four updates of 8 steps in 2 environments were whole, the last one after the checkpoint.
    assert gaussjax.load(out / "policy.safetensors").metadata["steps"] == 64
    assert len(closed) >= 2


def test_time_limit_of_ages_is_none():
    runner = rollout.Runner(probes.vector(Faulty, 2))
    runner.timeout = 1e20
    runner.reset(0)


def test_results_that_cannot_be_written_end_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))
    out = tmp_path / "run"

    class Removes(probes.Counter):
        def step(self, action):
            shutil.rmtree(out, ignore_errors=True)
            return super().step(action)

    gymnasium.register("gaussjax-test/Removes-v0", lambda: Removes(50))
    options = ["--num-envs", "2", "--num-steps", "8", "--batch-size", "16", "--num-epochs", "1", "--hidden-sizes", "8"]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["train", "ppo", "gaussjax-test/Removes-v0", "--out", str(out), *options, "--total-steps", "64"])
    finally:
        del gymnasium.registry["gaussjax-test/Removes-v0"]
    printed, line = capsys.readouterr()
    assert exit_.value.code == 1
    assert "No learning curve: [Errno 2]" in printed
    assert line.startswith("gaussjax: [Errno 2] No such file or directory")
    assert line.count("\n") == 1

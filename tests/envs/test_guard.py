"""Environments that raise, exit, hang or return NaN: the error names the environment."""

import contextlib
import os
import re
import signal
import sys
import threading

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import rollout
from gaussjax.envs import guard
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


def swallow():
    """The time limit runs out at once, and the environment hangs for ever, whatever is raised."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGALRM)
    while True:
        try:
            threading.Event().wait(0.05)
        except:  # noqa: E722
            continue


def swallow_once():
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGALRM)


def stop():
    next(iter(()))


def leave():
    os._exit(0)


HERE = r"test_guard\.py, line \d+\)"
DOES = {
    divide: r"expected an observation at step 3, got ZeroDivisionError: division by zero\. Correct",
    stop: r"expected an observation at step 3, got StopIteration\. Correct",
    sys.exit: r"expected an observation at step 3, got SystemExit\. Correct",
    leave: r"expected an observation at step 3, got a call of os\._exit: code 0\. Correct",
    hang: r"expected an answer to step 3 within 1200 s, got none\. The environment hangs",
}


def stepped(does):
    """A runner whose third environment is at fault in the next step."""
    runner = rollout.Runner(probes.vector_of([Faulty, Faulty, lambda: Faulty(does), Faulty]))
    runner.timeout = LIMIT
    runner.reset(0)
    for _ in range(2):
        runner.step(np.zeros((4, 1)))
    return runner


@pytest.mark.parametrize(("does", "says"), DOES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_environment_at_fault_is_named_with_its_step_and_its_line(does, says):
    runner, leaving = stepped(does), os._exit
    with pytest.raises(rollout.EnvironmentStepError, match=rf"^environment 2 \(.*{HERE}: {says}"):
        runner.step(np.zeros((4, 1)))
    assert os._exit is leaving
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


@pytest.mark.parametrize("does", [swallow, swallow_once])
def test_a_hang_that_swallows_the_alarm_ends_too(does):
    runner = stepped(does)
    with pytest.raises(rollout.EnvironmentStepError, match=rf"^environment 2 \(.*{HERE}: .* within 1200 s, got none"):
        runner.step(np.zeros((4, 1)))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("does", [divide, stop, sys.exit, leave, hang])
def test_environment_at_fault_in_its_reset_is_named(does):
    class Unborn(probes.Bandit):
        def reset(self, **options):
            does()
            return super().reset(**options)

    runner = rollout.Runner(probes.vector(Unborn, 2))
    runner.timeout = LIMIT
    with pytest.raises(
        rollout.EnvironmentStepError, match=rf"^environment 0 \(.*{HERE}: expected an .* reset(,| within)"
    ):
        runner.reset(0)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("shape", [(4,), (1,), (), (3, 1), (0,)], ids=str)
@pytest.mark.parametrize("length", [9, 2], ids=["within", "at its end"])
def test_an_observation_of_a_wrong_shape_is_refused_at_any_step(num_envs, shape, length):
    class Grows(probes.Swings, probes.Counter):
        def step(self, action):
            observation, *rest = super().step(action)
            return np.zeros(shape, np.float32) if self._steps == 2 else observation, *rest

    class Fine(probes.Swings, probes.Counter):
        pass

    makes = [lambda: Fine(9)] * (num_envs - 1) + [lambda: Grows(length)]
    runner = rollout.Runner(probes.vector_of(makes))
    runner.reset(0)
    runner.step(np.zeros((num_envs, 1)))
    fault = rf"expected an observation of shape \(3,\) at step 2, got {re.escape(str(shape))}\."
    says = rf"^environment {num_envs - 1} \(.*{HERE}: {fault}"
    with pytest.raises(rollout.EnvironmentStepError, match=says):
        runner.step(np.zeros((num_envs, 1)))


def test_the_alarm_and_the_folder_of_the_caller_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    rings = []

    def handler(*_):
        rings.append(len(rings))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, LIMIT, LIMIT)
        stepped(lambda: os.chdir("other")).step(np.zeros((4, 1)))
        remaining, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0.0 < remaining < LIMIT
        assert interval == LIMIT
        assert signal.getsignal(signal.SIGALRM) is handler
        assert rings == []
        # An alarm that is due within a step rings in it, and again.
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        stepped(lambda: wait_for(rings)).step(np.zeros((4, 1)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert os.getcwd() == str(tmp_path)


def wait_for(rings):
    while len(rings) < 3:
        signal.pause()


@pytest.mark.filterwarnings("ignore:os.fork")
def test_a_process_that_an_environment_forks_may_end():
    def fork():
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    stepped(fork).step(np.zeros((4, 1)))


def test_a_close_that_raises_is_named_and_the_others_are_closed():
    closed = []

    class Stuck(Faulty):
        def close(self):
            closed.append(self)
            if self.does:
                self.does()

    environments = probes.vector_of([Stuck, lambda: Stuck(divide), Stuck])
    with pytest.raises(
        rollout.EnvironmentStepError, match=rf"^environment 1 \(.*{HERE}: expected no error at close, got Zero"
    ):
        guard.close(environments)
    assert set(closed) == set(environments.envs)
    assert environments.closed
    # The error of the block is the one that counts.
    with pytest.raises(KeyError), guard.closing(probes.vector_of([lambda: Stuck(divide)])):
        raise KeyError


def test_evaluation_has_a_time_limit_too():
    class Hangs(probes.Bandit):
        def step(self, action):
            hang()

    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 1, gaussjax.spaces.Box(-1.0, 1.0, (1,)))
    params = policy.init(jax.random.key(0))
    with (
        probes.registered(Hangs) as name,
        pytest.raises(rollout.EnvironmentStepError, match=r"within 1200 s, got none"),
    ):
        rollout.evaluate(policy, params, name, episodes=1, timeout=LIMIT)


@pytest.mark.parametrize("limit", [LIMIT, 1e20], ids=["minutes", "ages"])
def test_time_limit_is_lifted_after_each_step(limit):
    runner = rollout.Runner(probes.vector(Faulty, 2))
    runner.timeout = limit
    runner.reset(0)
    runner.step(np.zeros((2, 1)))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

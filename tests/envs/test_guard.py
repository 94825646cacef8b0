"""Environments that raise, exit, hang or return NaN: the error names the environment."""

import contextlib
import signal
import sys

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import rollout
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

"""Training goes on from a checkpoint as if it had never stopped, and never from a damaged one."""

import contextlib
import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

from gaussjax import envs
from gaussjax.files.container import PolicyFileError
from gaussjax.training import ppo, replay, sac
from gaussjax.training.run import checkpoint

# The options of the examples of `ppo.make` and `sac.make`, so that all have the same compiled programs.
SHORT = {"num_envs": 4, "num_steps": 16, "batch_size": 32, "num_epochs": 1}
SHORT_SAC = {"num_envs": 2, "num_steps": 16, "batch_size": 4, "learning_starts": 50, "hidden_sizes": (8,)}


def same(one, two):
    def equal(a, b):
        if jnp.issubdtype(getattr(a, "dtype", None) or np.float64, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
        assert type(a) is type(b)

    jax.tree.map(equal, one, two)


class Training:
    """An algorithm on environments of its own, as a new process would make it."""

    def __init__(self, environment, algorithm=ppo, **options):
        config = algorithm.Config(**{**(SHORT if algorithm is ppo else SHORT_SAC), **options})
        compiled = isinstance(environment, envs.Environment)
        self.make = None if compiled else functools.partial(envs.make_vector, environment, config.num_envs)
        self.algorithm = algorithm.make(environment if compiled else self.make(), config)
        self.restart()

    def restart(self):
        """Everything that changes is new, as in a new process; `init` resets the environments."""
        if self.make:
            self.algorithm.runner.environments = self.make()
        self.state = self.algorithm.init(jax.random.key(0))

    def steps(self, count):
        rows = []
        for _ in range(count):
            self.state, row = self.algorithm.step(self.state)
            rows.append({name: float(value) for name, value in row.items() if name != "steps_per_second"})
        return rows

    def save(self, folder):
        runner = self.algorithm.runner
        checkpoint.save(folder, self.state, {"environments": runner and runner.capture()})

    def load(self, folder):
        restored = checkpoint.load(folder, self.state)
        self.state = restored.state
        if self.algorithm.runner:
            self.algorithm.runner.restore(restored.extra["environments"])
        return restored.notice


PENDULUM = envs.from_functional(PendulumFunctional(), max_steps=20)
CASES = {
    "Pendulum": ("Pendulum-v1", {}),
    "SAC": ("Pendulum-v1", {"algorithm": sac}),
    "MountainCarContinuous": ("MountainCarContinuous-v0", {}),
    "Pendulum, with memory": ("Pendulum-v1", {"network": "gru", "recurrent_size": 8, "sequence_length": 8}),
    "functional Pendulum": (PENDULUM, {}),
    "functional Pendulum, with memory": (PENDULUM, {"network": "lstm", "recurrent_size": 8, "sequence_length": 8}),
    # The buffer is filled on the way.
    "SAC, full buffer": ("Pendulum-v1", {"algorithm": sac, "normalize_observations": True, "buffer_size": 300}),
    "SAC, functional Pendulum": (PENDULUM, {"algorithm": sac, "buffer_size": 300}),
    "Pendulum, held noise": ("Pendulum-v1", {"hold": 5}),
    "Pendulum, with memory and coloured noise": (
        "Pendulum-v1",
        {"exploration": "colored", "network": "gru", "recurrent_size": 8, "sequence_length": 8},
    ),
    "functional Pendulum, coloured noise": (PENDULUM, {"exploration": "colored", "beta": 0.5}),
    "SAC, coloured noise": ("Pendulum-v1", {"algorithm": sac, "exploration": "colored"}),
    "SAC, functional Pendulum, held noise": (PENDULUM, {"algorithm": sac, "buffer_size": 300, "hold": 5}),
}


@functools.cache
def made(name):
    """The training of a row, compiled once for all tests of this file."""
    environment, options = CASES[name]
    return Training(environment, **options)


# Without compilation it takes minutes.
@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "Pendulum" else pytest.mark.slow) for n in CASES])
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    training = made(name)
    training.restart()
    # Episodes of Pendulum last 200 steps, so 15 updates of 16 steps end some in each part.
    expected = training.steps(5) + training.steps(15)
    whole = training.state
    training.restart()
    got = training.steps(5)
    training.save(tmp_path)
    training.steps(2)  # Lost with the process.
    training.restart()
    assert training.load(tmp_path) == ""
    got += training.steps(15)
    np.testing.assert_equal(got, expected)
    same(training.state, whole)


@pytest.mark.slow
def test_fifty_random_interruptions_change_nothing(tmp_path, record_bar):
    rng, differences = np.random.default_rng(0), 0
    for environment in ("Pendulum-v1", PENDULUM):
        whole, parts, other = (Training(environment) for _ in range(3))
        for _ in range(25):
            count = int(rng.integers(1, 4))
            whole.steps(count)
            parts.steps(count)
            parts.save(tmp_path)
            parts.steps(1)
            parts, other = other, parts
            parts.load(tmp_path)
            try:
                same(parts.state, whole.state)
            except AssertionError:
                differences += 1
    record_bar("resume", "random interruptions, differences to an uninterrupted run", 50, differences, 0)
    assert differences == 0


@pytest.fixture(scope="module")
def begun():
    training = made("Pendulum")
    training.restart()
    training.steps(1)
    return training, training.state, training.algorithm.runner.capture()


@pytest.fixture
def training(begun):
    """After one step."""
    training, training.state, environments = begun
    training.algorithm.runner.restore(environments)
    return training


def test_previous_checkpoint_takes_over_from_a_damaged_one_and_says_so(training, tmp_path):
    training.save(tmp_path)
    before = training.state
    training.steps(1)
    training.save(tmp_path)
    latest = tmp_path / checkpoint.LATEST
    payload = bytearray(latest.read_bytes())
    payload[-1] ^= 1
    latest.write_bytes(payload)
    notice = training.load(tmp_path)
    assert "sha256" in notice
    assert notice.endswith("Going on from the previous checkpoint.")
    same(training.state, before)
    # The damaged file does not push out the good one.
    training.save(tmp_path)
    same(checkpoint.load(tmp_path, before).state, before)
    (tmp_path / checkpoint.LATEST).unlink()
    assert "is missing. Going on from the previous" in checkpoint.load(tmp_path, before).notice


@pytest.mark.without("jax_debug_nans")
def test_nan_never_becomes_the_latest_checkpoint(training, tmp_path):
    training.save(tmp_path)
    good = training.state
    training.state = good._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, good.params))
    with pytest.raises(PolicyFileError, match="got NaN in"):
        training.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.LATEST]
    assert training.load(tmp_path) == ""
    same(training.state, good)
    # An environment may stand at NaN until its episode ends; it is learnt from nowhere.
    diverged = good._replace(environment=good.environment._replace(observations=np.full((4, 3), np.nan, np.float32)))
    checkpoint.save(tmp_path, diverged, {})
    same(checkpoint.load(tmp_path, good).state, diverged)


def test_checkpoint_of_other_options_is_refused_with_every_difference(training, tmp_path):
    training.save(tmp_path)
    wider = jax.tree.map(lambda leaf: np.zeros([65 if n == 64 else n for n in leaf.shape], "f"), training.state.params)
    with pytest.raises(
        PolicyFileError, match=r"expected \(\(3, 65\), 'float32'\), got \(\(3, 64\), 'float32'\).*; .*\(65"
    ) as e:
        checkpoint.load(tmp_path, training.state._replace(params=wider))
    assert "Resume with the options of the training that wrote it." in str(e.value)
    # In the order of the state, and not in another one in each process.
    named = re.findall(r"\.params\S+", str(e.value))
    assert named == sorted(named)


def test_replay_buffer_is_written_as_far_as_it_is_filled(tmp_path):
    row = sac.Transition(np.zeros(3, "f"), np.zeros(1, "f"), np.zeros((), "f"), np.zeros((), bool), np.zeros(3, "f"))
    rows = sac.Transition(*(np.ones((64, *leaf.shape), leaf.dtype) for leaf in row))
    saved = {"buffer": replay.add(replay.init(row, 100_000), rows)[0]}
    checkpoint.save(tmp_path, saved, {})
    # 64 of 100,000 transitions of 9 numbers.
    assert (tmp_path / checkpoint.LATEST).stat().st_size < 40_000
    restored = checkpoint.load(tmp_path, {"buffer": replay.init(row, 100_000)})
    assert restored.notice == ""
    same(restored.state, saved)
    with pytest.raises(
        PolicyFileError, match=r"buffer'\].rows.observations: expected \(\(50, 3\), 'float32'\), got \(\(64, 3"
    ):
        checkpoint.load(tmp_path, {"buffer": replay.init(row, 50)})


def test_both_damaged_or_none_at_all_is_an_error(training, tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a checkpoint, got none"):
        training.load(tmp_path)
    for name in (checkpoint.LATEST, checkpoint.PREVIOUS):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(PolicyFileError, match=r"checkpoint.safetensors: .* .*checkpoint.previous"):
        training.load(tmp_path)


def stopping(original, count, error=KeyboardInterrupt):
    """The function, which after so many calls raises instead."""
    left = iter(range(count))

    def function(*arguments, **options):
        if next(left, None) is None:
            raise error
        return original(*arguments, **options)

    return function


def test_some_checkpoint_is_in_the_folder_at_every_moment(training, tmp_path, monkeypatch):
    """Stopped before each call that changes the folder, a whole checkpoint is there."""
    training.save(tmp_path)
    for name in ("link", "replace", "fsync", "chmod"):
        for count in range(3):
            with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
                patched.setattr(os, name, stopping(getattr(os, name), count))
                training.save(tmp_path)
            assert checkpoint.load(tmp_path, training.state).notice == ""
    # A crash before the write of the latest one leaves two names of one file, between which a rename does nothing.
    (tmp_path / checkpoint.PREVIOUS).unlink()
    os.link(tmp_path / checkpoint.LATEST, tmp_path / checkpoint.PREVIOUS)
    training.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.LATEST, checkpoint.PREVIOUS}

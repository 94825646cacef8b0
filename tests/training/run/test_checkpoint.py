"""Training goes on from a checkpoint as if it had never stopped, and never from a damaged one."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.pendulum import PendulumFunctional

import gaussjax
from gaussjax import envs, rollout
from gaussjax.envs import snapshot
from gaussjax.files.container import PolicyFileError
from gaussjax.training import ppo, sac
from gaussjax.training.run import checkpoint, report, results
from gaussjax.training.run import loop as run
from tests.training import probes

SHORT = {
    "num_envs": 4,
    "num_steps": 16,
    "batch_size": 32,
    "num_epochs": 1,
    "hidden_sizes": (8,),
    "total_steps": 64 * 60,
}
# The buffer of 600 is filled on the way.
SHORT_SAC = {
    "num_envs": 4,
    "num_steps": 16,
    "batch_size": 8,
    "learning_starts": 100,
    "buffer_size": 600,
    "hidden_sizes": (8,),
}


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
        self.environments = environment if isinstance(environment, envs.Environment) else None
        self.environments = self.environments or envs.make_vector(environment, config.num_envs)
        self.algorithm = algorithm.make(self.environments, config)
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


CASES = {
    "Pendulum": ("Pendulum-v1", {}),
    "MountainCarContinuous": ("MountainCarContinuous-v0", {}),
    "Pendulum, with memory": ("Pendulum-v1", {"network": "gru", "recurrent_size": 8, "sequence_length": 8}),
    "functional Pendulum": (envs.from_functional(PendulumFunctional(), max_steps=20), {}),
    "SAC": ("Pendulum-v1", {"algorithm": sac, "normalize_observations": True}),
    "SAC, functional Pendulum": (envs.from_functional(PendulumFunctional(), max_steps=20), {"algorithm": sac}),
}


# Their parts are those of other rows.
VARIANTS = ("MountainCarContinuous", "SAC, functional Pendulum")


@pytest.mark.parametrize(
    ("environment", "options"),
    [pytest.param(*case, marks=pytest.mark.slow if name in VARIANTS else ()) for name, case in CASES.items()],
    ids=CASES,
)
def test_resumed_training_is_the_uninterrupted_one_bit_for_bit(environment, options, tmp_path):
    whole, parts = Training(environment, **options), Training(environment, **options)
    # Episodes of Pendulum last 200 steps, so 15 updates of 16 steps end some in each part.
    expected = whole.steps(5) + whole.steps(15)
    got = parts.steps(5)
    parts.save(tmp_path)
    parts.steps(2)  # Lost with the process.
    other = Training(environment, **options)
    assert other.load(tmp_path) == ""
    got += other.steps(15)
    np.testing.assert_equal(got, expected)
    same(other.state, whole.state)


@pytest.mark.slow
def test_fifty_random_interruptions_change_nothing(tmp_path, record_bar):
    rng, differences = np.random.default_rng(0), 0
    for environment in ("Pendulum-v1", CASES["functional Pendulum"][0]):
        whole, parts = Training(environment), Training(environment)
        other = Training(environment)
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
def compiled():
    return Training("Pendulum-v1")


@pytest.fixture
def training(compiled):
    """After one step; `init` resets the environments too."""
    compiled.state = compiled.algorithm.init(jax.random.key(0))
    compiled.steps(1)
    return compiled


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


def test_nan_never_becomes_the_latest_checkpoint(training, tmp_path):
    training.save(tmp_path)
    good = training.state
    training.state = good._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, good.params))
    with pytest.raises(PolicyFileError, match="got NaN in"):
        training.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.LATEST]
    assert training.load(tmp_path) == ""
    same(training.state, good)


def test_checkpoint_of_other_options_is_refused_with_every_difference(training, tmp_path):
    training.save(tmp_path)
    with pytest.raises(
        PolicyFileError, match=r"expected \(\(3, 9\), 'float32'\), got \(\(3, 8\), 'float32'\).*; .*\(9"
    ) as e:
        Training("Pendulum-v1", hidden_sizes=(9,)).load(tmp_path)
    assert "Resume with the options of the training that wrote it." in str(e.value)
    # In the order of the state, and not in another one in each process.
    named = re.findall(r"\.params\S+", str(e.value))
    assert named == sorted(named)


def test_replay_buffer_is_written_as_far_as_it_is_filled(tmp_path):
    training = Training("Pendulum-v1", algorithm=sac, buffer_size=100_000)
    training.steps(1)
    training.save(tmp_path)
    # 64 of 100,000 transitions of 9 numbers.
    assert (tmp_path / checkpoint.LATEST).stat().st_size < 40_000
    saved = training.state
    assert training.load(tmp_path) == ""
    same(training.state, saved)
    with pytest.raises(
        PolicyFileError, match=r"buffer.rows.observations: expected \(\(50, 3\), 'float32'\), got \(\(64, 3"
    ):
        Training("Pendulum-v1", algorithm=sac, buffer_size=50).load(tmp_path)


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


class Opaque(probes.Bandit):
    """Its state is not known to gaussjax."""


class Open(probes.Bandit):
    """It says itself what its state is."""

    def get_state(self):
        return {"last": np.float32(0.1), "of": (1, [2.5, None])}

    def set_state(self, state):
        self.was = state


def test_environment_that_cannot_be_saved_is_named_with_the_repair():
    with pytest.raises(snapshot.UnsavableError, match=r"the state of .*:Opaque cannot be saved. Give"):
        snapshot.capture(probes.vector(Opaque, 2))


def test_environment_of_the_users_says_what_its_state_is():
    environments = probes.vector(Open, 2)
    environments.reset(seed=0)
    snapshot.restore(environments, snapshot.capture(environments))
    state = environments.envs[0].was
    assert state == {"last": np.float32(0.1), "of": (1, [2.5, None])}
    assert state["last"].dtype == np.float32


def test_wrapper_with_a_state_of_its_own_is_refused():
    environments = probes.vector(lambda: gymnasium.wrappers.NormalizeReward(gymnasium.make("Pendulum-v1")), 2)
    with pytest.raises(snapshot.UnsavableError, match=r"the wrapper .*NormalizeReward may hold a state"):
        snapshot.capture(environments)
    environments.close()


def make_run(tmp_path, make, **options):
    config = ppo.Config(**{**SHORT, **options})
    environments = probes.vector(make, config.num_envs)
    algorithm = ppo.make(environments, config)
    folder = tmp_path / "run"
    if not folder.exists():
        run.start(folder, {"normalize_observations": True})
    return folder, algorithm, algorithm.init(jax.random.key(0))


def train(folder, algorithm, state, updates, **options):
    options = {"checkpoint_every": 2, "max_skipped": 3, **options}
    return run.train(folder, algorithm, state, {}, total_steps=64 * updates, **options)


def rows_of(folder):
    with (folder / run.METRICS).open() as file:
        return [{name: row[name] for name in row if name != "steps_per_second"} for row in csv.DictReader(file)]


def test_run_goes_on_in_its_folder_and_measures_each_update_once(tmp_path):
    folder, algorithm, state = make_run(tmp_path / "a", Open)
    train(folder, algorithm, state, 6)
    other, algorithm, state = make_run(tmp_path / "b", Open)
    train(other, algorithm, state, 3)
    _, algorithm, state = make_run(tmp_path / "b", Open)
    resumed = run.restore(other, algorithm, state)
    assert resumed.notices == []
    train(other, algorithm, resumed.state, 6, best=resumed.best)
    assert rows_of(other) == rows_of(folder)


def test_run_on_environments_that_cannot_be_saved_goes_on_and_says_so(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Opaque)
    train(folder, algorithm, state, 2)
    _, algorithm, state = make_run(tmp_path, Opaque)
    resumed = run.restore(folder, algorithm, state)
    assert "Where these environments stood is not saved: they start new episodes" in resumed.notices[0]
    state, _ = train(folder, algorithm, resumed.state, 4)
    assert state.steps == 4 * 64


def test_run_of_an_algorithm_that_works_in_place_keeps_its_last_update(tmp_path):
    class Breaks(Opaque):
        steps = 0

        def step(self, action):
            type(self).steps += 1
            if type(self).steps > 30:
                raise RuntimeError("broken")
            return super().step(action)

    config = sac.Config(num_envs=2, num_steps=4, learning_starts=4, batch_size=4, buffer_size=64, hidden_sizes=(8,))
    environments = probes.vector(Breaks, 2)
    algorithm = sac.make(environments, config)
    run.start(tmp_path / "run", {"normalize_observations": True})
    state = algorithm.init(jax.random.key(0))
    with pytest.raises(rollout.EnvironmentStepError, match=r"environment 0: .* RuntimeError: broken"):
        run.train(tmp_path / "run", algorithm, state, {}, total_steps=1000, checkpoint_every=1, max_skipped=3)
    # Three whole updates of 4 steps in 2 environments.
    assert gaussjax.load(tmp_path / "run" / run.POLICY).metadata["steps"] == 24
    fresh = sac.make(probes.vector(Opaque, 2), config)
    assert run.restore(tmp_path / "run", fresh, fresh.init(jax.random.key(0))).state.steps == 24


@pytest.mark.parametrize("broken", [RuntimeError, KeyboardInterrupt])
def test_first_update_in_place_that_breaks_leaves_the_policy_before_it(tmp_path, monkeypatch, broken):
    config = sac.Config(num_envs=2, num_steps=4, learning_starts=4, batch_size=4, buffer_size=64, hidden_sizes=(8,))
    algorithm = sac.make(probes.vector(Opaque, 2), config)
    run.start(tmp_path / "run", {"normalize_observations": True})
    state = algorithm.init(jax.random.key(0))
    # After the first gradient steps, which take the learner away.
    monkeypatch.setattr(Opaque, "step", stopping(Opaque.step, 2 * 3, broken), raising=False)
    expected = contextlib.nullcontext() if broken is KeyboardInterrupt else pytest.raises(RuntimeError)
    with expected:
        run.train(tmp_path / "run", algorithm, state, {}, total_steps=1000, checkpoint_every=1, max_skipped=3)
    assert gaussjax.load(tmp_path / "run" / run.POLICY).metadata["steps"] == 0


@pytest.mark.parametrize(("make", "updates"), [(Opaque, 3), (Open, 2)])
def test_update_that_breaks_costs_itself_alone_or_leaves_an_exact_checkpoint(tmp_path, monkeypatch, make, updates):
    """Every second update has a checkpoint; the fourth one breaks. Only where `Open` stood could be written."""
    folder, algorithm, state = make_run(tmp_path, make)
    monkeypatch.setattr(make, "step", stopping(make.step, 3 * 64 + 10, RuntimeError))
    with pytest.raises(rollout.EnvironmentStepError, match="RuntimeError"):
        train(folder, algorithm, state, 6)
    monkeypatch.undo()
    assert gaussjax.load(folder / run.POLICY).metadata["steps"] == 3 * 64
    _, algorithm, state = make_run(tmp_path, make)
    resumed = run.restore(folder, algorithm, state)
    assert resumed.state.steps == updates * 64
    assert bool(resumed.notices) == (make is Opaque)


def test_training_that_breaks_before_its_first_checkpoint_can_be_resumed(tmp_path, monkeypatch):
    folder, algorithm, state = make_run(tmp_path, Open)
    monkeypatch.setattr(Open, "step", stopping(Open.step, 64 + 10), raising=False)
    _, stopped = train(folder, algorithm, state, 6, checkpoint_every=20)
    monkeypatch.undo()
    assert stopped
    assert run.restore(folder, *make_run(tmp_path, Open)[1:]).state.steps == 64


def test_best_policy_is_the_one_that_played_the_best_episodes(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Opaque, learning_rate=0.5)
    seen = []

    def step(before):
        seen.append(before.params)
        following, row = algorithm.step(before)
        return following, {**row, "episode_return": -float(len(seen))}

    train(folder, algorithm._replace(step=step), state, 3)
    best = gaussjax.load(folder / results.BEST)
    assert (best.metadata["steps"], best.metadata["episode_return"]) == (0, -1.0)
    jax.tree.map(np.testing.assert_array_equal, best.params, seen[0])


class Poisoned(probes.Bandit):
    """Pays so much after some steps that the loss overflows."""

    after = 64 * 2 // SHORT["num_envs"]

    def reset(self, **options):
        self.steps = getattr(self, "steps", 0)
        return super().reset(**options)

    def step(self, action):
        self.steps += 1
        observation, reward, *rest = super().step(action)
        return observation, 1e38 if self.steps > self.after else reward, *rest


def test_training_stops_after_gradients_that_are_not_finite_and_keeps_the_last_good_state(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Poisoned, normalize_rewards=False)
    with pytest.raises(run.TrainingError, match=r"got NaN or infinity in 3 updates in a row, the last at step 320"):
        train(folder, algorithm, state, 100, checkpoint_every=1)
    assert [float(row["skipped"]) for row in rows_of(folder)] == [0.0, 0.0, 2.0, 2.0, 2.0]
    good = checkpoint.load(folder, state).state
    assert good.steps == 2 * 64
    loaded = gaussjax.load(folder / run.POLICY)
    same(loaded.params, good.params)
    assert loaded.metadata["steps"] == 5 * 64


@pytest.mark.parametrize("torn", ["6", "64", "64,1", "640,1.0,2"])
def test_a_row_of_metrics_that_was_broken_off_is_dropped(tmp_path, torn):
    path = tmp_path / run.METRICS
    whole = "step,entropy,kl\n64,1.5,0.5\n"
    path.write_text(whole + torn)
    report.drop_later_rows(path, 640)
    assert path.read_text().split() == whole.split()


def test_a_better_policy_that_a_checkpoint_does_not_know_is_kept(tmp_path):
    """It was written at the end of a run that broke off, and the run goes on from before it."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    scores = iter([1.0, 2.0, 800.0, 3.0])

    def step(before):
        following, row = algorithm.step(before)
        if (score := next(scores)) == 3.0:
            raise RuntimeError
        return following, {**row, "episode_return": score}

    with pytest.raises(RuntimeError):
        train(folder, algorithm._replace(step=step, in_place=True), state, 6)
    assert gaussjax.load(folder / results.BEST).metadata["episode_return"] == 800.0
    _, algorithm, state = make_run(tmp_path, Opaque)
    resumed = run.restore(folder, algorithm, state)
    assert (resumed.state.steps, resumed.best) == (2 * 64, 2.0)
    train(folder, algorithm, resumed.state, 4, best=resumed.best)
    assert gaussjax.load(folder / results.BEST).metadata["episode_return"] == 800.0


def test_random_actions_make_no_best_policy(tmp_path):
    """As of SAC before its first gradient step; the score is not one of the policy's."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    scores = iter([5.0, 1.0, 2.0])

    def step(before):
        following, row = algorithm.step(before)
        return following, {**row, "episode_return": next(scores)}

    train(folder, algorithm._replace(step=step, random_steps=10), state, 3)
    best = gaussjax.load(folder / results.BEST).metadata
    assert (best["episode_return"], best["steps"]) == (2.0, 2 * 64)


@pytest.mark.parametrize("bad", [{4}, {3, 4}])
def test_updates_with_something_skipped_are_saved_when_they_are_over(tmp_path, bad):
    """At the next good one, or at the end: not at the next interval."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    saved, updates = [], iter(range(1, 100))

    def step(before):
        with contextlib.suppress(FileNotFoundError):
            saved.append(int(checkpoint.load(folder, before).state.steps) // 64)
        following, row = algorithm.step(before)
        return following, {**row, "skipped": float(next(updates) in bad)}

    train(folder, algorithm._replace(step=step), state, 6, checkpoint_every=4)
    assert saved == [5]
    assert checkpoint.load(folder, state).state.steps == 6 * 64


def test_checkpoints_are_written_while_an_environment_stands_at_nan(tmp_path):
    """Its reward stays in the sum until the episode ends, and is learnt from nowhere."""

    def step(state, action):
        count = state + 1.0
        reward = jnp.where(count == 20.0, jnp.nan, 1.0)
        return envs.Step(count, jnp.ones(1), reward, jnp.asarray(False), count == 1000.0)

    box = gaussjax.spaces.Box(-1.0, 1.0, (1,))
    environment = envs.Environment(lambda key: (jnp.zeros(()), jnp.ones(1)), step, box, box)
    config = ppo.Config(**SHORT)
    algorithm = ppo.make(environment, config)
    algorithm = algorithm._replace(step=jax.jit(algorithm.step))
    run.start(tmp_path / "run", {"normalize_observations": True})
    state, _ = train(tmp_path / "run", algorithm, algorithm.init(jax.random.key(0)), 5)
    assert np.isnan(np.asarray(state.environment.returns)).all()
    restored = checkpoint.load(tmp_path / "run", state).state
    assert restored.steps == 5 * 64
    same(restored.params, state.params)


def test_a_state_with_names_that_are_no_text_comes_back_as_it_was():
    state = {0: 1.0, (1, 2): {"a": np.float32(0.5)}}
    written = json.loads(json.dumps(snapshot._write(state)))
    assert snapshot._read(written) == state

"""A run leaves its results in its folder, whatever ends it, and goes on from there."""

import contextlib
import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax import envs, rollout
from gaussjax.training import ppo, sac
from gaussjax.training.run import checkpoint, output_files
from gaussjax.training.run import loop as run
from tests.envs.test_snapshot import Opaque, Open
from tests.training import probes
from tests.training.run.test_checkpoint import SHORT, same, stopping


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
    assert "The state of these environments is not saved: they start new episodes" in resumed.notices[0]
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
    best = gaussjax.load(folder / output_files.BEST)
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
    assert gaussjax.load(folder / output_files.BEST).metadata["episode_return"] == 800.0
    _, algorithm, state = make_run(tmp_path, Opaque)
    resumed = run.restore(folder, algorithm, state)
    assert (resumed.state.steps, resumed.best) == (2 * 64, 2.0)
    train(folder, algorithm, resumed.state, 4, best=resumed.best)
    assert gaussjax.load(folder / output_files.BEST).metadata["episode_return"] == 800.0


def test_random_actions_make_no_best_policy(tmp_path):
    """As of SAC before its first gradient step; the score is not one of the policy's."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    scores = iter([5.0, 1.0, 2.0])

    def step(before):
        following, row = algorithm.step(before)
        return following, {**row, "episode_return": next(scores)}

    train(folder, algorithm._replace(step=step, random_steps=10), state, 3)
    best = gaussjax.load(folder / output_files.BEST).metadata
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

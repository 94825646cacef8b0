"""A run leaves its results in its folder, whatever ends it, and goes on from there; Ctrl-C and SIGTERM end it."""

import contextlib
import csv
import dataclasses
import functools
import gc
import re
import signal
import sys
import time

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import rollout
from gaussjax.training import ppo, sac
from gaussjax.training.run import checkpoint, output_files
from gaussjax.training.run import loop as run
from tests.envs.test_snapshot import Opaque, Open
from tests.training import jax_probes, probes
from tests.training.run.test_checkpoint import SHORT, SHORT_SAC, same, stopping

CONFIGS = {ppo: ppo.Config(**SHORT), sac: sac.Config(**SHORT_SAC | {"num_steps": 4, "learning_starts": 4})}


@functools.cache
def compiled(module, **options):
    """The algorithm, compiled once for all tests of this file."""
    config = dataclasses.replace(CONFIGS[module], **options)
    return module.make(probes.vector(Opaque, config.num_envs), config)


def make_run(tmp_path, make, module=ppo, **options):
    """Folder, algorithm and first state of a run on new environments."""
    algorithm, folder = compiled(module, **options), tmp_path / "run"
    algorithm.runner.environments = probes.vector(make, CONFIGS[module].num_envs)
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


@pytest.mark.parametrize(
    ("calls", "error", "steps"), [(30, RuntimeError, 24), (6, RuntimeError, 0), (6, KeyboardInterrupt, 0)]
)
@pytest.mark.slow
def test_an_update_in_place_that_breaks_leaves_the_policy_before_it(tmp_path, monkeypatch, calls, error, steps):
    """After the first gradient steps, which donate the learner; updates are of 4 steps in 2 environments."""
    folder, algorithm, state = make_run(tmp_path, Opaque, sac)
    monkeypatch.setattr(Opaque, "step", stopping(Opaque.step, calls, error), raising=False)
    fault = pytest.raises(rollout.EnvironmentStepError, match=r"environment 0: .* RuntimeError")
    with contextlib.nullcontext() if error is KeyboardInterrupt else fault:
        train(folder, algorithm, state, 100, checkpoint_every=1)
    assert gaussjax.load(folder / run.POLICY).metadata["steps"] == steps
    monkeypatch.undo()
    if steps:
        assert run.restore(*make_run(tmp_path, Opaque, sac)).state.steps == steps


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize(
    ("make", "whole", "error", "checkpoint_every", "updates"),
    [(Opaque, 3, RuntimeError, 2, 3), (Open, 3, RuntimeError, 2, 2), (Open, 1, KeyboardInterrupt, 20, 1)],
)
def test_update_that_breaks_costs_itself_alone_or_leaves_an_exact_checkpoint(
    tmp_path, monkeypatch, make, whole, error, checkpoint_every, updates
):
    """Only where `Open` stood could be written: at its checkpoint, or before the first one without its state."""
    folder, algorithm, state = make_run(tmp_path, make)
    monkeypatch.setattr(make, "step", stopping(make.step, whole * 64 + 10, error), raising=False)
    if error is KeyboardInterrupt:
        assert train(folder, algorithm, state, 6, checkpoint_every=checkpoint_every)[1]
    else:
        with pytest.raises(rollout.EnvironmentStepError, match="RuntimeError"):
            train(folder, algorithm, state, 6, checkpoint_every=checkpoint_every)
    monkeypatch.undo()
    assert gaussjax.load(folder / run.POLICY).metadata["steps"] == whole * 64
    resumed = run.restore(*make_run(tmp_path, make))
    assert resumed.state.steps == updates * 64
    new = ["The state of these environments is not saved: they start new episodes"] * (updates == whole)
    assert [notice.partition(",")[0] for notice in resumed.notices] == new
    state, _ = train(folder, algorithm, resumed.state, 4)
    assert state.steps == 4 * 64


def scored(algorithm, scores, **changes):
    """The algorithm with these returns of episodes in its metrics; after them it breaks."""
    scores = iter(scores)

    def step(state):
        following, row = algorithm.step(state)
        return following, {**row, "episode_return": next(scores)}

    return algorithm._replace(step=step, **changes)


def test_best_policy_is_the_one_that_played_the_best_episodes(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Opaque)
    train(folder, scored(algorithm, [-1.0, -2.0, -3.0]), state, 3)
    best = gaussjax.load(folder / output_files.BEST)
    assert (best.metadata["steps"], best.metadata["episode_return"]) == (0, -1.0)
    jax.tree.map(np.testing.assert_array_equal, best.params, state.params)


@pytest.mark.parametrize(
    ("module", "options"), [pytest.param(ppo, {"normalize_rewards": False}, marks=pytest.mark.slow), (sac, {})]
)
def test_training_stops_after_gradients_that_are_not_finite_and_keeps_the_last_good_state(
    tmp_path, monkeypatch, module, options
):
    """The environments pay so much after two updates that the loss overflows."""
    folder, algorithm, state = make_run(tmp_path, Opaque, module, **options)
    update = CONFIGS[module].num_envs * CONFIGS[module].num_steps
    calls, step = iter(range(10**6)), Opaque.step

    def poisoned(self, action):
        observation, reward, *rest = step(self, action)
        return observation, 1e38 if next(calls) >= 2 * update else reward, *rest

    monkeypatch.setattr(Opaque, "step", poisoned, raising=False)
    with pytest.raises(run.TrainingError, match=r"got NaN or infinity in 3 updates in a row, the last at step (\d+)"):
        train(folder, algorithm, state, 100, checkpoint_every=1)
    skipped = [float(row["skipped"]) for row in rows_of(folder)]
    good = checkpoint.load(folder, make_run(tmp_path, Opaque, module, **options)[2]).state
    loaded = gaussjax.load(folder / run.POLICY)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded.params))
    assert good.steps == (len(skipped) - 3) * update
    assert min(skipped[-3:]) > 0
    if module is ppo:
        # Each minibatch has rewards that overflow.
        assert skipped == [0.0, 0.0, 2.0, 2.0, 2.0]
        same(loaded.params, good.params)
        assert loaded.metadata["steps"] == 5 * update


@pytest.mark.without("jax_debug_key_reuse")
def test_a_better_policy_that_a_checkpoint_does_not_know_is_kept(tmp_path):
    """It was written at the end of a run that broke off, and the run goes on from before it."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    with pytest.raises(StopIteration):
        train(folder, scored(algorithm, [1.0, 2.0, 800.0], in_place=True), state, 6)
    assert gaussjax.load(folder / output_files.BEST).metadata["episode_return"] == 800.0
    resumed = run.restore(*make_run(tmp_path, Opaque))
    assert (resumed.state.steps, resumed.best) == (2 * 64, 2.0)
    train(folder, algorithm, resumed.state, 4, best=resumed.best)
    assert gaussjax.load(folder / output_files.BEST).metadata["episode_return"] == 800.0


def test_the_best_policy_is_on_the_disk_before_the_checkpoint_that_knows_its_score(tmp_path, monkeypatch):
    """Killed between the two, a resumed training would never write it, because no later score is better."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    save, found = checkpoint.save, []

    def noted(folder, *arguments):
        found.append(gaussjax.load(folder / output_files.BEST).metadata["episode_return"])
        save(folder, *arguments)

    monkeypatch.setattr(checkpoint, "save", noted)
    train(folder, scored(algorithm, [7.0, 8.0]), state, 2, checkpoint_every=1)
    assert found == [7.0, 8.0]


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("written", [False, True])
def test_an_interruption_at_a_row_of_metrics_leaves_each_update_once(written, tmp_path, monkeypatch):
    """A row without its state is removed again; a state without its row could not be repaired."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    write = output_files.MetricsFile.write

    def interrupted(self, row):
        if written or row["step"] < 128:
            write(self, row)
        if row["step"] == 128:
            raise KeyboardInterrupt

    monkeypatch.setattr(output_files.MetricsFile, "write", interrupted)
    assert train(folder, algorithm, state, 6, checkpoint_every=20)[1] == signal.SIGINT
    monkeypatch.undo()
    resumed = run.restore(*make_run(tmp_path, Opaque))
    assert resumed.state.steps == 64
    train(folder, algorithm, resumed.state, 3)
    assert [row["step"] for row in rows_of(folder)] == ["64", "128", "192"]


class Closed(Open):
    """A newer version of an environment, which refuses the states of the older one."""

    __module__, __qualname__ = Open.__module__, "Open"

    def set_state(self, state):
        raise SystemExit("no such state")


class Renamed(Open):
    """An environment whose class has another name than in the checkpoint."""


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize(("make", "reason"), [(Closed, "no such state"), (Renamed, "expected .*:Open in 0 wrappers")])
def test_environments_that_refuse_their_saved_state_start_new_episodes(make, reason, tmp_path):
    folder, algorithm, state = make_run(tmp_path, Open)
    train(folder, algorithm, state, 2)
    resumed = run.restore(*make_run(tmp_path, make))
    assert re.search(rf"does not fit these environments \(.*{reason}.*\): they start new episodes", resumed.notices[0])
    assert train(folder, algorithm, resumed.state, 3)[0].steps == 3 * 64


def test_random_actions_make_no_best_policy(tmp_path):
    """As of SAC before its first gradient step; the score is not one of the policy's."""
    folder, algorithm, state = make_run(tmp_path, Opaque)
    train(folder, scored(algorithm, [5.0, 1.0, 2.0], random_steps=10), state, 3)
    best = gaussjax.load(folder / output_files.BEST).metadata
    assert (best["episode_return"], best["steps"]) == (2.0, 2 * 64)


def test_a_mean_over_nothing_is_nan_in_the_file_and_older_episodes_make_no_best_policy(tmp_path):
    folder, algorithm, state = make_run(tmp_path, Opaque)
    rows = iter([(0.0, 0.0, 0.0), (0.0, 5.0, 1.0), (1.0, 2.0, 1.0)])

    def step(before):
        following, row = algorithm.step(before)
        return following, {
            **row,
            **dict(zip(("episodes", "episode_return", "episode_length"), next(rows), strict=True)),
        }

    train(folder, algorithm._replace(step=step), state, 3)
    assert [row["episode_return"] for row in rows_of(folder)] == ["nan", "5.0", "2.0"]
    assert gaussjax.load(folder / output_files.BEST).metadata["episode_return"] == 2.0


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


@pytest.mark.parametrize("module", [ppo, sac], ids=["ppo", "sac"])
def test_a_step_on_the_host_returns_numbers_of_python_by_the_names_of_a_compiled_step(tmp_path, module):
    _, algorithm, state = make_run(tmp_path, Opaque, module)
    _, metrics = algorithm.step(state)
    assert {type(value) for value in metrics.values()} == {int, float}
    compiled = module.make(jax_probes.bandit(1.0), CONFIGS[module])
    shapes = jax.eval_shape(compiled.step, jax.eval_shape(compiled.init, jax.random.key(0)))[1]
    assert set(metrics) == {*shapes, "steps_per_second"}


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_request_and_the_second_one_stops(name):
    before = signal.getsignal(name)
    with run.Interruption().handle_signals() as interruption:
        assert not interruption.requested_anywhere()
        signal.raise_signal(name)
        assert interruption.requested_anywhere()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(name)
    assert signal.getsignal(name) is before


def test_a_terminal_that_is_closed_twice_is_one_request_and_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with run.Interruption().handle_signals() as interruption:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert interruption.requested_anywhere() == signal.SIGHUP
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        # One that comes while the results are written does not end the process.
        signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with run.Interruption().handle_signals() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.requested_anywhere()
    finally:
        signal.signal(signal.SIGHUP, before)


def press(phase="start", _=None):
    if phase == "start":
        signal.raise_signal(signal.SIGINT)


def in_finaliser():
    class Pressed:
        def __del__(self):
            press()

    Pressed()


def in_collection():
    gc.callbacks.append(press)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(press)


@pytest.mark.parametrize("pressed", [in_finaliser, in_collection])
def test_an_interrupt_that_python_drops_is_sent_again(pressed):
    def wait():
        pressed()
        time.sleep(600)

    # A shell starts processes in its background with SIGINT ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with run.resend_lost_interrupts(), pytest.raises(KeyboardInterrupt):
            wait()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_errors_that_python_drops_are_reported_as_before(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))

    class Broken:
        def __del__(self):
            raise OSError

    with run.resend_lost_interrupts():
        Broken()
    Broken()
    assert reported == [OSError, OSError]

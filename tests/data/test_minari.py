"""Datasets that Minari itself collects, read by object and by name."""

import gc
import warnings

import gymnasium
import jax
import minari
import numpy as np
import pytest

from gaussjax import data
from gaussjax.data import episodes as records

NAME = "pendulum/random-v0"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))


class Camera(gymnasium.Env):
    """A Dict space of a picture, a discrete part and a vector, in episodes of 3, 4, … steps."""

    observation_space = gymnasium.spaces.Dict(
        camera=gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
        mode=gymnasium.spaces.Discrete(3),
        pair=gymnasium.spaces.Tuple((gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.MultiDiscrete([2, 2]))),
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    length = 2

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.steps = self.length + 1, 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(self.steps), self.steps == self.length, False, {}


def collected(environment, name, episodes):
    collector = minari.DataCollector(environment, record_infos=False)
    for seed in range(episodes):
        collector.reset(seed=seed)
        done = False
        while not done:
            *_, terminated, truncated, _ = collector.step(collector.action_space.sample())
            done = terminated or truncated
    with warnings.catch_warnings():
        # Minari asks for the name of an author, and leaves a temporary folder behind.
        warnings.simplefilter("ignore")
        dataset = collector.create_dataset(name)
        collector.close()
        del collector
        gc.collect()
    return dataset


def test_a_dataset_is_read_by_object_and_by_name(store):
    dataset = collected(gymnasium.make("Pendulum-v1", max_episode_steps=20), NAME, 3)
    for source in (dataset, f"minari:{NAME}"):
        found = data.read_dataset(source)
        assert (found.observations.shape, found.observations.dtype) == ((60, 3), np.float32)
        assert np.flatnonzero(found.starts).tolist() == [0, 20, 40]
        assert np.flatnonzero(found.truncated).tolist() == [19, 39, 59]
        for i, episode in enumerate(dataset.iterate_episodes()):
            rows = data.rows(found, slice(20 * i, 20 * i + 20))
            np.testing.assert_array_equal(rows.observations, episode.observations[:-1])
            np.testing.assert_array_equal(rows.actions, episode.actions)
            np.testing.assert_array_equal(rows.rewards, episode.rewards.astype(np.float32))
    part = data.read_dataset(dataset.filter_episodes(lambda episode: episode.id != 1))
    assert len(part.actions) == 40


@pytest.mark.parametrize("large", [False, True])
def test_nested_observations_and_pictures_are_read(store, monkeypatch, large):
    if large:
        monkeypatch.setattr(data.recorded, "IN_MEMORY", 0)
        monkeypatch.setattr(data.minari, "_KEPT", 0)
    dataset = collected(Camera(), "camera/test-v0", 3)
    found = data.read_dataset(dataset)
    assert isinstance(found.actions, records.Rows) == large
    assert np.flatnonzero(found.starts).tolist() == [0, 3, 7]
    episodes = list(dataset.iterate_episodes())
    whole = jax.tree.map(
        lambda *parts: np.concatenate([part[:-1] for part in parts]), *(each.observations for each in episodes)
    )
    rows = data.rows(found, slice(None))
    jax.tree.map(np.testing.assert_array_equal, rows.observations, whole)
    dtypes = [leaf.dtype.name for leaf in jax.tree.leaves(rows.observations)]
    assert dtypes == ["uint8", "int32", "float32", "int32"]


def test_a_missing_dataset_is_refused_with_the_command_that_gets_it(store, tmp_path):
    with pytest.raises(ValueError, match=r"minari:a/b-v0 in the local store, got none. .*: minari download a/b-v0"):
        data.read_dataset("minari:a/b-v0")
    (tmp_path / "store" / "a" / "b-v0" / "data").mkdir(parents=True)
    (tmp_path / "store" / "a" / "b-v0" / "data" / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match="expected a dataset that Minari reads, got 'a/b-v0': "):
        data.read_dataset("minari:a/b-v0")


def test_bad_rows_of_a_dataset_are_named(store):
    dataset = collected(gymnasium.make("Pendulum-v1", max_episode_steps=5), NAME, 2)
    box = gymnasium.spaces.Box(-1e-3, 1e-3, (1,))
    with pytest.raises(ValueError, match=rf"^dataset: minari:{NAME}: actions: expected .* in episode 0, step 0"):
        data.read_dataset(dataset, action_space=box)
    with pytest.raises(ValueError, match=rf"^dataset: minari:{NAME}: observations: expected .*4"):
        data.read_dataset(dataset, observation_space=4)

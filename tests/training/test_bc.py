from __future__ import annotations

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import normalize
from gaussjax.training import bc

BOX = gaussjax.spaces.Box((1,), -1.0, 1.0)


def test_recovers_the_mean_and_the_spread_of_a_noisy_teacher():
    rng = np.random.default_rng(0)
    seen = rng.uniform(-1, 1, (4096, 2)).astype(np.float32)
    # The teacher: mean 0.5·x₀, standard deviation 0.1 where x₁ < 0 and 0.4 where x₁ > 0.
    spread = np.where(seen[:, 1:] < 0, 0.1, 0.4)
    done = (0.5 * seen[:, :1] + spread * rng.normal(size=(4096, 1))).astype(np.float32)
    config = bc.Config(sizes=(32, 32), learning_rate=3e-3)
    algorithm = bc.make(bc.Dataset(seen, done), bc.make_policy(2, BOX, config), config)
    state = algorithm.init(jax.random.key(0))
    for _ in range(40):
        state, metrics = algorithm.step(state)
    assert metrics["step"] == 40
    places = np.array([[0.5, -0.5], [-0.5, -0.5], [0.5, 0.5]], np.float32)
    distribution, _ = algorithm.policy.apply(state.params, normalize.apply(state.observation_statistics, places))
    np.testing.assert_allclose(distribution.mean()[:, 0], [0.25, -0.25, 0.25], atol=0.06)
    np.testing.assert_allclose(distribution.stddev()[:, 0], [0.1, 0.1, 0.4], rtol=0.2)


def test_reads_npz_csv_and_dicts_alike(tmp_path):
    seen = np.arange(6, dtype=np.float32).reshape(3, 2)
    done = np.array([[0.5], [0.25], [-1.0]], np.float32)
    np.savez(tmp_path / "data.npz", observations=seen, actions=done)
    lines = ["action_0,observation_1,observation_0,reward"]
    lines += [f"{a[0]},{o[1]},{o[0]},0" for o, a in zip(seen, done, strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    # Minari keeps the observation after the last action.
    longer = {"observations": np.concatenate([seen, [[9, 9]]]), "actions": done}
    for source in (tmp_path / "data.npz", str(tmp_path / "data.csv"), longer):
        dataset = bc.read_dataset(source)
        np.testing.assert_array_equal(dataset.observations, seen)
        np.testing.assert_array_equal(dataset.actions, done)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"observations": np.zeros((3, 2))}, "expected observations and actions, got"),
        ({"observations": np.zeros((3, 2)), "actions": np.zeros((5, 1))}, "got 3 observations and 5 actions"),
        ({"observations": np.zeros((0, 2)), "actions": np.zeros((0, 1))}, "got 0 observations"),
        ({"observations": np.array([[0.0], [np.nan]]), "actions": np.zeros((2, 1))}, "in 1 rows, first 1"),
    ],
)
def test_unusable_data_is_refused(columns, says):
    with pytest.raises(ValueError, match=says):
        bc.read_dataset(columns)


def test_pickled_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", observations=np.array([object()]), actions=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        bc.read_dataset(tmp_path / "data.npz")


def test_csv_without_the_columns_is_refused(tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match="expected columns observation_0"):
        bc.read_dataset(tmp_path / "data.csv")


def test_dataset_smaller_than_a_batch_is_refused():
    config = bc.Config(sizes=(4,))
    with pytest.raises(ValueError, match="at most the 3 pairs"):
        bc.make(bc.Dataset(np.zeros((3, 2)), np.zeros((3, 1))), bc.make_policy(2, BOX, config), config)

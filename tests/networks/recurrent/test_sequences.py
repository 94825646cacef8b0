import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.networks import LSTM, episode_ends, episode_starts, to_sequences
from tests import policies


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32], ids=lambda dtype: np.dtype(dtype).name)
def test_flags_of_every_type_become_bool_and_truncation_resets_too(dtype):
    terminated, truncated = np.array([0, 1, 0, 0], dtype), np.array([0, 0, 0, 1], dtype)
    assert episode_ends(terminated, truncated).tolist() == [False, True, False, True]
    assert episode_starts(terminated, truncated).tolist() == [False, False, True, False]
    assert episode_starts(terminated, truncated, first=dtype(1)).tolist() == [True, False, True, False]
    assert jax.jit(episode_starts)(terminated, truncated).dtype == bool


def test_starts_of_two_rollouts_join_to_those_of_the_whole():
    ends = np.random.default_rng(0).random((12, 3)) < 0.3
    never = np.zeros_like(ends)
    whole = episode_starts(ends, never)
    second = episode_starts(ends[6:], never[6:], first=ends[5])
    np.testing.assert_array_equal(np.concatenate([whole[:6], second]), whole)


def test_flags_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"truncated: expected the shape of terminated, \(3,\), got \(2,\)"):
        episode_starts(np.zeros(3), np.zeros(2))
    with pytest.raises(TypeError, match="terminated: expected bool, integer or float flags, got <U2"):
        episode_ends(np.array(["no"]), np.array([0]))
    with pytest.raises(ValueError, match=r"first: expected shape \(2,\), got \(\)"):
        episode_starts(np.zeros((3, 2)), np.zeros((3, 2)), first=True)
    with pytest.raises(ValueError, match="For one step use episode_ends"):
        episode_starts(False, False)


def test_chunks_from_their_stored_carries_give_the_numbers_of_the_rollout():
    policy = gaussjax.gaussian(LSTM(hidden_size=5, sizes=()), 3, gaussjax.spaces.Box(shape=(2,)))
    params = policies.random_params(policy)
    generator = np.random.default_rng(0)
    steps, envs, length = 12, 2, 4
    observations = generator.normal(size=(steps, envs, 3)).astype(np.float32)
    resets = generator.random((steps, envs)) < 0.3

    def step(carry, inputs):
        distribution, outputs = policy.apply(params, inputs[0], carry=carry, resets=inputs[1])
        return outputs["carry"], (carry, distribution.mean())

    _, (carries, means) = jax.lax.scan(step, policy.initial_carry((envs,)), (observations, resets))
    rollout = {"observations": observations, "resets": resets, "means": means}
    sequences, start = to_sequences(rollout, carries, length)
    assert sequences["observations"].shape == (length, envs * steps // length, 3)
    np.testing.assert_array_equal(sequences["observations"][:, 3], observations[4:8, 1])
    again, _ = policy.apply(params, sequences["observations"], carry=start, resets=sequences["resets"])
    np.testing.assert_allclose(again.mean(), sequences["means"], atol=1e-6)
    only_starts = jax.tree.map(lambda leaf: leaf[::length], carries)
    jax.tree.map(np.testing.assert_array_equal, to_sequences(rollout, only_starts, length)[1], start)


def test_lengths_that_do_not_divide_the_rollout_are_refused():
    with pytest.raises(ValueError, match=r"sequence_length: expected a divisor of T = 6, one of \[1, 2, 3, 6\], got 4"):
        to_sequences(jnp.zeros((6, 2)), (), 4)
    with pytest.raises(ValueError, match=r"rollout\['b'\]: expected leading axes \(6, 2\)"):
        to_sequences({"a": jnp.zeros((6, 2)), "b": jnp.zeros((6, 3))}, (), 3)
    with pytest.raises(
        ValueError, match=r"carries\[0\]: expected leading axes \(6, 2\) or \(2, 2\), got shape \(3, 2, 8\)"
    ):
        to_sequences(jnp.zeros((6, 2)), (jnp.zeros((3, 2, 8)),), 3)

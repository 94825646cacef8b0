import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.training import replay


def test_rows_go_round_and_the_oldest_are_overwritten():
    buffer = replay.init({"a": jnp.zeros((), jnp.int32), "b": jnp.zeros(2)}, capacity=5)
    assert replay.size(buffer) == 0
    for start in (0, 3, 6):
        numbers = jnp.arange(start, start + 3)
        rows = {"a": numbers, "b": jnp.stack([numbers, -numbers], -1).astype(jnp.float32)}
        buffer, _ = jax.jit(replay.add)(buffer, rows)
    # 0 … 8 were added to five places: 5 6 7 8 wrapped onto 0 1 2 3, and 4 is left.
    np.testing.assert_array_equal(buffer.rows["a"], [5, 6, 7, 8, 4])
    np.testing.assert_array_equal(buffer.rows["b"][:, 1], [-5, -6, -7, -8, -4])
    assert replay.size(buffer) == 5


def test_the_count_of_a_full_buffer_stays_below_twice_its_capacity():
    buffer, stored = replay.init(jnp.zeros((), jnp.int32), capacity=5), [0] * 5
    add = jax.jit(replay.add)
    for start in range(0, 60, 3):
        buffer, _ = add(buffer, jnp.arange(start, start + 3))
        for number in range(start, start + 3):
            stored[number % 5] = number
        np.testing.assert_array_equal(buffer.rows, stored)
        assert int(buffer.added) == (start + 3 if start + 3 < 5 else 5 + (start + 3) % 5)
        assert int(replay.size(buffer)) == min(start + 3, 5)


def test_only_what_was_added_is_drawn_and_all_of_it_evenly():
    buffer = replay.add(replay.init(jnp.zeros((), jnp.int32), capacity=100), jnp.arange(1, 5))[0]
    drawn = np.asarray(replay.sample(buffer, jax.random.key(0), 8000))
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == 0
    # Binomial(8000, 1/4): mean 2000, deviation 39.
    assert np.all(np.abs(counts[1:] - 2000) < 5 * 39)


@pytest.mark.without("jax_debug_nans")
def test_rows_that_are_not_finite_are_left_out_and_counted():
    rows = {"a": jnp.array([1.0, jnp.nan, 3.0, 4.0]), "b": jnp.array([[0.0], [0.0], [jnp.inf], [0.0]])}
    buffer = replay.init({"a": jnp.zeros(()), "b": jnp.zeros(1)}, capacity=3)
    for _ in range(2):
        buffer, refused = jax.jit(replay.add)(buffer, rows)
        assert refused == 2
    # 1 and 4 twice in three places: the last 4 is on the first place.
    np.testing.assert_array_equal(buffer.rows["a"], [4, 4, 1])
    assert buffer.added == 4


def test_filled_part_has_no_place_that_was_never_written():
    buffer, _ = replay.add(replay.init(jnp.zeros(()), capacity=4), jnp.arange(1.0, 4.0))
    np.testing.assert_array_equal(replay.filled(buffer).rows, [1, 2, 3])
    buffer, _ = replay.add(buffer, jnp.arange(4.0, 7.0))
    np.testing.assert_array_equal(replay.filled(buffer).rows, [5, 6, 3, 4])

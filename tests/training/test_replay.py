from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

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


def test_only_what_was_added_is_drawn_and_all_of_it_evenly():
    buffer = replay.add(replay.init(jnp.zeros((), jnp.int32), capacity=100), jnp.arange(1, 5))[0]
    drawn = np.asarray(replay.sample(buffer, jax.random.key(0), 8000))
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == 0
    # Binomial(8000, 1/4): mean 2000, deviation 39.
    assert np.all(np.abs(counts[1:] - 2000) < 5 * 39)

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.random import keys

KEY = jax.random.key(7)
DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "bytes": lambda key: jax.random.bits(key, (4,), "uint8"),
    "a number": lambda key: jax.random.uniform(key),
    "normal": lambda key: jax.random.normal(key, (7,)),
    "truncated": lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (2, 3)),
    "integers": lambda key: jax.random.randint(key, (6,), 0, 1000),
    "permutation": lambda key: jax.random.permutation(key, 9),
    "orthogonal": lambda key: jax.random.orthogonal(key, 4),
    "of a split": lambda key: jax.random.bits(jax.random.split(key, (2, 3))[1, 2], (4,)),
    "of a fold": lambda key: jax.random.bits(jax.random.fold_in(key, 2**32 - 5), (4,)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_written_out_a_key_draws_the_same_numbers(draw):
    compiled = jax.jit(lambda key: (draw(key), draw(keys.written_out(key))))
    np.testing.assert_array_equal(*compiled(KEY))


def test_several_keys_are_written_out_at_once():
    several = jax.random.split(KEY, 5)
    drawn = jax.vmap(lambda key: jax.random.normal(key, (3,)))
    np.testing.assert_array_equal(drawn(keys.written_out(several)), drawn(several))


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey, lambda seed: jax.random.key(seed, impl="rbg")])
def test_split_and_fold_in_are_jax_s_and_keep_the_type_of_the_key(make):
    key = make(3)
    for ours, theirs in (
        (keys.split(key, 3), jax.random.split(key, 3)),
        (keys.fold_in(key, 11), jax.random.fold_in(key, 11)),
    ):
        assert ours.dtype == theirs.dtype
        assert bool(jnp.all(ours == theirs))


@pytest.mark.parametrize("other", [jax.random.key(0, impl="rbg"), jax.random.PRNGKey(0), np.zeros(2), 5, None])
def test_what_is_no_typed_threefry_key_stays_as_it_came(other):
    assert keys.written_out(other) is other


def test_a_key_is_compiled_as_one_hash_whoever_draws_from_it():
    """Not as one for each of its words, nor as one more in each draw."""

    @jax.jit
    def draws(key):
        return [jax.random.bits(keys.written_out(one), (64,)) for one in keys.split(key)]

    exclusive_ors = draws.lower(KEY).compile().as_text().count(" xor(")
    hashes = 3
    # One in each of the twenty rounds, two of the key, one of the words drawn.
    assert 20 * hashes <= exclusive_ors <= 23 * hashes

"""Random numbers: the bits are JAX's, in torch and in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from gaussjax import threefry
from gaussjax.torch import random

SHAPES = [(), (1,), (7,), (3, 5), (1000, 3), (2, 0), (2, 3, 4, 5)]
SEEDS = [0, 1, 123, 2**31, 2**32 - 1]


def words(key):
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed < 2**31])
def test_keys_are_those_of_jax(seed):
    key = jax.random.key(seed)
    ours, tensor = threefry.key(seed), random.key(seed)
    assert (ours == words(key)).all()
    assert (tensor.numpy() == words(key)).all()
    assert (random.from_jax(key) == tensor).all()
    assert (random.from_jax(jax.random.PRNGKey(seed)) == tensor).all()
    assert (random.split(tensor, 5).numpy() == words(jax.random.split(key, 5))).all()
    assert (threefry.split(ours, 5) == words(jax.random.split(key, 5))).all()
    for data in (0, 1, 77, 2**32 - 1):
        folded = words(jax.random.fold_in(key, np.uint32(data)))
        assert (random.fold_in(tensor, data).numpy() == folded).all()
        assert (threefry.fold_in(ours, data) == folded).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_bits_and_uniform_numbers_are_those_of_jax(seed, shape):
    key = jax.random.wrap_key_data(threefry.key(seed))
    tensor = random.key(seed)
    for ours, theirs in ((random, tensor), (threefry, threefry.key(seed))):
        assert (np.asarray(ours.bits(theirs, shape)) == np.asarray(jax.random.bits(key, shape))).all()
        drawn = np.asarray(ours.uniform(theirs, shape))
        assert drawn.shape == shape
        assert drawn.dtype == np.float32
        assert (drawn == np.asarray(jax.random.uniform(key, shape))).all()


@pytest.mark.parametrize(("dtype", "places"), [("float32", 3), ("float64", 4)])
def test_normal_numbers_are_those_of_jax_but_for_the_last_places(x64, dtype, places):
    # XLA fuses products and sums, which others round twice.
    expected = np.asarray(jax.random.normal(jax.random.key(5), (100_000,), dtype))
    for found in (
        random.normal(random.key(5), (100_000,), getattr(torch, dtype)).numpy(),
        threefry.normal(threefry.key(5), (100_000,), dtype),
    ):
        assert found.dtype == expected.dtype
        difference = np.abs(found - expected) / np.spacing(np.abs(expected))
        assert difference.max() <= places
        assert np.mean(difference > 0) < 0.1


@pytest.mark.slow
def test_a_million_actions_of_one_key_are_the_same_to_a_millionth():
    expected = np.asarray(jax.random.normal(jax.random.key(9), (1_000_000,)))
    found = random.normal(random.key(9), (1_000_000,)).numpy()
    assert np.abs(found - expected).max() <= 1e-6


def test_keys_can_be_mapped_over():
    keys = random.split(random.key(3), 4)
    mapped = torch.func.vmap(lambda key: random.normal(key, (3,)))(keys)
    assert (mapped == torch.stack([random.normal(key, (3,)) for key in keys])).all()


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, None])
def test_seeds_that_make_other_keys_with_64_bits_are_refused(seed):
    with pytest.raises(ValueError, match="seed: expected an integer from 0"):
        random.key(seed)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="dtype: expected 'float32' or 'float64', got 'bfloat16'"):
        random.normal(random.key(0), (2,), torch.bfloat16)

"""Random numbers: the bits are JAX's, in torch and in NumPy."""

import jax
import numpy as np
import pytest
import torch

from gaussjax.random import threefry
from gaussjax.torch import random

SHAPES = [(), (7,), (1000, 3), (2, 0), (2, 3, 4, 5)]
SEEDS = [0, 1, 123, 2**31, 2**32 - 1]


def words(key):
    return np.asarray(jax.random.key_data(key))


@pytest.mark.without("jax_debug_key_reuse")
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


@jax.jit
def drawn_by_jax(key):
    """Bits and uniform numbers of all shapes, in one program."""
    return [(jax.random.bits(key, shape), jax.random.uniform(key, shape)) for shape in SHAPES]


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
@pytest.mark.parametrize("seed", SEEDS)
def test_bits_and_uniform_numbers_are_those_of_jax(seed):
    expected = drawn_by_jax(jax.random.wrap_key_data(threefry.key(seed)))
    for ours, key in ((random, random.key(seed)), (threefry, threefry.key(seed))):
        for shape, (bits, uniform) in zip(SHAPES, expected, strict=True):
            np.testing.assert_array_equal(ours.bits(key, shape), bits, strict=True)
            np.testing.assert_array_equal(ours.uniform(key, shape), uniform, strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_numbers_are_those_of_jax_to_a_few_units_in_the_last_place(x64, dtype):
    expected = np.asarray(jax.random.normal(jax.random.key(5), (200_000,), dtype))
    for found in (
        random.normal(random.key(5), (200_000,), getattr(torch, dtype)).numpy(),
        threefry.normal(threefry.key(5), (200_000,), dtype),
    ):
        assert found.dtype == expected.dtype
        if dtype == "float32":
            np.testing.assert_array_max_ulp(found, expected, 4)
        else:
            np.testing.assert_allclose(found, expected, rtol=5e-15, atol=5e-16)


# The rounding is that of the program, in which XLA fuses the product with the sum.
@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize(("minimum", "maximum"), [(0.0, 1.0), (-1.7, 3.0), (0.1, 0.3), (-3.2, 100.0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_numbers_of_any_interval_are_those_of_jax(x64, dtype, minimum, maximum):
    expected = np.asarray(jax.random.uniform(jax.random.key(5), (100_000,), dtype, minimum, maximum))
    found = random.uniform(random.key(5), (100_000,), getattr(torch, dtype), minimum, maximum).numpy()
    assert (threefry.uniform(threefry.key(5), (100_000,), dtype, minimum, maximum) == found).all()
    # In float64 one rounding of the product, which XLA fuses with the sum.
    exact = dtype == "float32" or (minimum, maximum) == (0.0, 1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if exact else np.spacing(max(maximum, -minimum)))


@pytest.mark.slow
def test_every_single_precision_normal_number_is_that_of_jax_to_4_units_in_the_last_place():
    # A draw has 23 random bits: there are no other numbers than these.
    floats = (np.arange(2**23, dtype=np.uint32) | np.uint32(0x3F800000)).view(np.float32)
    least = np.nextafter(np.float32(-1), np.float32(0))
    draws = np.maximum((floats - np.float32(1)) * (np.float32(1) - least) + least, least)
    expected = np.asarray(jax.jit(lambda draws: np.float32(np.sqrt(2)) * jax.lax.erf_inv(draws))(draws))
    np.testing.assert_array_max_ulp(threefry.quantile(draws, "float32"), expected, 4)
    found = threefry.quantile(torch.from_numpy(draws), "float32", random.WORDS).numpy()
    np.testing.assert_array_max_ulp(found, expected, 4)


@pytest.mark.slow
def test_ten_million_double_precision_normal_numbers_are_those_of_jax(x64):
    for seed in range(10):
        expected = np.asarray(jax.random.normal(jax.random.key(seed), (1_000_000,), "float64"))
        found = random.normal(random.key(seed), (1_000_000,), torch.float64).numpy()
        np.testing.assert_allclose(found, expected, rtol=5e-15, atol=5e-16)
        in_numpy = threefry.normal(threefry.key(seed), (1_000_000,), "float64")
        np.testing.assert_allclose(in_numpy, expected, rtol=5e-15, atol=5e-16)


def test_keys_can_be_mapped_over():
    keys = random.split(random.key(3), 4)
    mapped = torch.func.vmap(lambda key: random.normal(key, (3,)))(keys)
    assert (mapped == torch.stack([random.normal(key, (3,)) for key in keys])).all()


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_normal_numbers_are_the_same_compiled(dtype):
    compiled = torch.compile(lambda key: random.normal(key, (64,), dtype), fullgraph=True, backend="aot_eager")
    assert (compiled(random.key(3)) == random.normal(random.key(3), (64,), dtype)).all()


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, None])
def test_seeds_that_make_other_keys_with_64_bits_are_refused(seed):
    with pytest.raises(ValueError, match="seed: expected an integer from 0"):
        random.key(seed)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="dtype: expected 'float32' or 'float64', got 'bfloat16'"):
        random.normal(random.key(0), (2,), torch.bfloat16)

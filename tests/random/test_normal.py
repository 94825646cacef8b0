"""The noise is jax.random.normal's own, bit for bit: nothing of a policy's draws depends on how fast they are made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.random.normal import standard_normal

SHAPES = [(), (1,), (8,), (0, 3), (1, 8), (5, 3), (256, 8), (3, 4, 5), (2, 1, 3, 7), (100_003,), (5000, 8)]


def same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [jax.random.key, pytest.param(jax.random.PRNGKey, marks=pytest.mark.slow)])
def test_bits_are_those_of_jax_eager_and_compiled(shape, make):
    key = make(12345)
    expected = jax.random.normal(key, shape)
    same_bits(standard_normal(key, shape), expected)
    same_bits(jax.jit(standard_normal, static_argnums=1)(key, shape), expected)


def test_bits_of_a_legacy_key_are_those_of_jax():
    key = jax.random.PRNGKey(12345)
    same_bits(standard_normal(key, (5, 3)), jax.random.normal(key, (5, 3)))


def test_bits_are_those_of_jax_over_many_draws():
    for seed in range(5):
        key = jax.random.key(seed)
        same_bits(jax.jit(standard_normal, static_argnums=1)(key, (1 << 18,)), jax.random.normal(key, (1 << 18,)))


def test_bits_are_those_of_jax_under_vmap_and_scan():
    keys = jax.random.split(jax.random.key(3), 7)
    expected = jnp.stack([jax.random.normal(key, (4, 3)) for key in keys])
    same_bits(jax.vmap(lambda key: standard_normal(key, (4, 3)))(keys), expected)
    same_bits(jax.lax.scan(lambda _, key: (None, standard_normal(key, (4, 3))), None, keys)[1], expected)


@pytest.mark.parametrize("shape", [(1000, 3), (20_000, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_bits_are_those_of_jax_in_x64(x64, dtype, shape):
    key = jax.random.key(9)
    same_bits(standard_normal(key, shape, dtype), jax.random.normal(key, shape, dtype))


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_generators_draw_their_own_numbers(implementation):
    key = jax.random.key(0, impl=implementation)
    same_bits(standard_normal(key, (64, 3)), jax.random.normal(key, (64, 3)))


def test_bits_are_those_of_jax_inside_a_larger_program():
    """Fused with what consumes it, the noise keeps its bits."""

    @jax.jit
    def both(key):
        noise = standard_normal(key, (256, 8))
        return noise, 1.5 + 0.1 * noise, -0.5 * jnp.sum(noise * noise, -1)

    key = jax.random.key(4)
    same_bits(both(key)[0], jax.random.normal(key, (256, 8)))

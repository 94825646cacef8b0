import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.random import keys
from gaussjax.random.keys import standard_normal

KEY = jax.random.key(7)
FLAGS = ({"jax_threefry_partitionable": False}, {"jax_debug_key_reuse": True})


def ours(key):
    return (
        keys.split(key),
        keys.split(key, 5),
        keys.fold_in(key, 2**32 - 5),
        keys.bits(key, (3, 5)),
        keys.bits(key),
        keys.randint(key, (2, 300), -7, jnp.array([[1000], [2**20]])),
        keys.randint(key, (300,), -(2**31), 2**31 - 1),
        keys.randint(key, (3,), 5, 5),
    )


def theirs(key):
    return (
        jax.random.split(key),
        jax.random.split(key, 5),
        jax.random.fold_in(key, np.uint32(2**32 - 5)),
        jax.random.bits(key, (3, 5), "uint32"),
        jax.random.bits(key, dtype="uint32"),
        jax.random.randint(key, (2, 300), -7, jnp.array([[1000], [2**20]]), "int32"),
        jax.random.randint(key, (300,), -(2**31), 2**31 - 1, "int32"),
        jax.random.randint(key, (3,), 5, 5, "int32"),
    )


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert bool(jnp.all(one == other))


def rbg(seed):
    return jax.random.key(seed, impl="rbg")


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize(
    "make", [jax.random.key, *(pytest.param(make, marks=pytest.mark.slow) for make in (jax.random.PRNGKey, rbg))]
)
def test_numbers_and_types_of_keys_are_those_of_jax(make):
    assert_same(jax.jit(ours)(make(3)), jax.jit(theirs)(make(3)))


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("make", [jax.random.key, pytest.param(jax.random.PRNGKey, marks=pytest.mark.slow)])
def test_numbers_are_those_of_jax_under_vmap_and_scan(make):
    several = jax.random.split(make(3), 4)
    one = jax.jit(theirs)
    expected = [jnp.stack(leaves) for leaves in zip(*map(one, several), strict=True)]
    assert_same(jax.jit(jax.vmap(ours))(several), expected)
    assert_same(jax.lax.scan(lambda _, key: (None, ours(key)), None, several)[1], expected)


@pytest.mark.without("jax_debug_key_reuse")
def test_numbers_are_those_of_jax_in_x64(x64):
    assert_same(jax.jit(ours)(KEY), jax.jit(theirs)(KEY))


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize("flags", FLAGS, ids=lambda flags: next(iter(flags)))
def test_other_settings_of_jax_are_left_to_jax(flags):
    """A program with the setting holds none of the cipher written out, but JAX's own calls."""
    before = {flag: getattr(jax.config, flag) for flag in flags}
    draws = (
        lambda random, key: random.bits(random.split(key)[0], (6,)),
        lambda random, key: random.randint(key, (6,), 0, 9),
    )
    try:
        for flag, value in flags.items():
            jax.config.update(flag, value)
        for draw in draws:
            programs = [
                jax.jit(lambda key, draw=draw, random=random: draw(random, key)).lower(jax.random.key(3)).as_text()
                for random in (keys, jax.random)
            ]
            assert programs[0].count("xor") == programs[1].count("xor")
    finally:
        for flag, value in before.items():
            jax.config.update(flag, value)


def test_the_checker_of_reused_keys_sees_our_draws():
    def twice(key):
        return keys.bits(key, (3,)) + keys.bits(key, (3,))

    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        jax.jit(twice)(jax.random.key(3))


@pytest.mark.parametrize("function", [keys.split, keys.bits, lambda key: keys.fold_in(key, 1)])
@pytest.mark.parametrize("other", [5, np.zeros(2), None])
def test_what_is_no_key_is_refused_by_jax(function, other):
    with pytest.raises((TypeError, ValueError)):
        function(other)


def exclusive_ors():
    """The number of them in a compiled program of three hashes, each of which has 23."""

    def draws(key):
        return [keys.bits(one, (64,)) for one in keys.split(key)]

    return jax.jit(draws).lower(jax.random.key(7)).compile().as_text().count(" xor(")


@pytest.mark.without("jax_debug_key_reuse")
def test_a_key_is_compiled_as_one_hash_whoever_draws_from_it():
    # One in each of the twenty rounds, two of the key, one of the words drawn.
    assert 3 * 20 <= exclusive_ors() <= 3 * 23


@pytest.mark.without("jax_debug_key_reuse")
def test_xla_copies_a_hash_into_each_consumer(monkeypatch):
    """When this fails, `keys.once` is needed no longer."""
    monkeypatch.setattr(keys, "once", lambda x, random_bits: x)
    jax.clear_caches()
    found = exclusive_ors()
    jax.clear_caches()
    assert found > 3 * 23


SHAPES = [(), (0, 3), (5, 3), (100_003,)]
MORE = [(2, 1, 3, 7), (1,), (8,), (1, 8), (256, 8), (3, 4, 5), (5000, 8)]


def same_bits(ours, theirs):
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in MORE)], ids=str)
@pytest.mark.parametrize("make", [jax.random.key, pytest.param(jax.random.PRNGKey, marks=pytest.mark.slow)])
def test_normal_numbers_are_those_of_jax_eager_and_compiled(shape, make):
    key = make(12345)
    expected = jax.random.normal(key, shape)
    same_bits(standard_normal(key, shape), expected)
    same_bits(jax.jit(standard_normal, static_argnums=1)(key, shape), expected)


@pytest.mark.without("jax_enable_x64")
def test_normal_numbers_of_a_legacy_key_are_those_of_jax():
    key = jax.random.PRNGKey(12345)
    same_bits(standard_normal(key, (5, 3)), jax.random.normal(key, (5, 3)))


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
def test_normal_numbers_are_those_of_jax_over_many_draws():
    for seed in range(5):
        key = jax.random.key(seed)
        same_bits(jax.jit(standard_normal, static_argnums=1)(key, (1 << 18,)), jax.random.normal(key, (1 << 18,)))


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
def test_normal_numbers_are_those_of_jax_under_vmap_and_scan():
    keys = jax.random.split(jax.random.key(3), 7)
    expected = jnp.stack([jax.random.normal(key, (4, 3)) for key in keys])
    same_bits(jax.vmap(lambda key: standard_normal(key, (4, 3)))(keys), expected)
    same_bits(jax.lax.scan(lambda _, key: (None, standard_normal(key, (4, 3))), None, keys)[1], expected)


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("shape", [(1000, 3), pytest.param((20_000, 2), marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_normal_numbers_are_those_of_jax_in_x64(x64, dtype, shape):
    key = jax.random.key(9)
    same_bits(standard_normal(key, shape, dtype), jax.random.normal(key, shape, dtype))


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_generators_draw_their_own_numbers(implementation):
    key = jax.random.key(0, impl=implementation)
    same_bits(standard_normal(key, (64, 3)), jax.random.normal(key, (64, 3)))


@pytest.mark.without("jax_enable_x64", "jax_debug_key_reuse")
def test_normal_numbers_are_those_of_jax_inside_a_larger_program():
    """Fused with what consumes it, the noise keeps its bits."""

    @jax.jit
    def both(key):
        noise = standard_normal(key, (256, 8))
        return noise, 1.5 + 0.1 * noise, -0.5 * jnp.sum(noise * noise, -1)

    key = jax.random.key(4)
    same_bits(both(key)[0], jax.random.normal(key, (256, 8)))

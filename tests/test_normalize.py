"""Running statistics against NumPy's in float64, however the observations came in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaussjax import normalize

X = np.random.default_rng(0).normal([0.0, 5.0, -300.0], [1.0, 0.01, 40.0], (240, 3)).astype(np.float32)


update = jax.jit(normalize.update)


def of(*batches, shape=(3,), update=update):
    state = normalize.init(shape)
    for batch in batches:
        state = update(state, batch)
    return state


def assert_describes(state, x, mean_tolerance=1e-6, variance_tolerance=1e-5):
    exact = np.asarray(x, np.float64).reshape(-1, *state.mean.shape)
    assert float(state.count) == len(exact)
    spread = np.abs(exact.mean(0)) + exact.std(0)
    np.testing.assert_array_less(np.abs(state.mean - exact.mean(0)), mean_tolerance * spread + 1e-30)
    np.testing.assert_allclose(normalize.variance(state), exact.var(0), rtol=variance_tolerance, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 5, 40, 80]), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_chunking_and_the_order_do_not_matter(sizes, random):
    x = X[: sum(sizes)]
    rows = list(range(len(x)))
    random.shuffle(rows)
    chunks = np.split(x[rows], np.cumsum(sizes)[:-1])
    # Means merge within roundoff, so their square enters the variance of a narrow dimension.
    assert_describes(of(*chunks), x, 3e-6, 1e-3)


def test_leading_dimensions_are_one_batch_bit_for_bit():
    for shape in ((240, 3), (24, 10, 3), (2, 12, 10, 3)):
        jax.tree.map(np.testing.assert_array_equal, of(X.reshape(shape)), of(X))


def test_batches_single_observations_and_several_axes_give_the_mean_and_the_variance():
    assert_describes(of(X), X)
    assert_describes(of(*X[:5]), X[:5], 1e-6, 1e-3)
    images = np.random.default_rng(1).normal(size=(6, 5, 2, 4)).astype(np.float32)
    assert_describes(of(images, shape=(2, 4)), images)


@pytest.mark.parametrize("chunks", [1, 10, 1000])
def test_far_from_zero_the_variance_keeps_its_digits(chunks):
    # float32 has steps of 0.06 at a million: a sum of squares would lose the variance of 1
    # altogether. What is left is the roundoff of the mean, (0.06/2)² of the variance.
    x = (1e6 + np.random.default_rng(0).normal(size=(20_000, 2))).astype(np.float32)
    state = of(*np.split(x, chunks), shape=(2,))
    np.testing.assert_allclose(state.mean, x.astype(np.float64).mean(0), atol=0.07)
    np.testing.assert_allclose(normalize.variance(state), x.astype(np.float64).var(0), rtol=0.01)


def test_a_constant_dimension_has_no_variance_and_becomes_zero():
    constant = np.full((50, 2), [1e6, 0.1], np.float32)
    state = of(*np.split(constant, 5), shape=(2,))
    np.testing.assert_allclose(normalize.variance(state), np.zeros(2), atol=1e-14)
    np.testing.assert_allclose(normalize.apply(state, constant), np.zeros((50, 2)), atol=1e-3)


def test_apply_standardizes_and_clips():
    # Two observations at 1 and 3: mean 2, variance 1.
    state = of(np.array([[1.0], [3.0]], np.float32), shape=(1,))
    x = np.array([[2.0], [3.5], [-3.0], [50.0]], np.float32)
    np.testing.assert_allclose(normalize.apply(state, x), [[0.0], [1.5], [-5.0], [10.0]], rtol=1e-6)
    np.testing.assert_allclose(normalize.apply(state, x, clip=2.0), [[0.0], [1.5], [-2.0], [2.0]], rtol=1e-6)


def test_before_the_first_update_apply_changes_nothing():
    np.testing.assert_allclose(normalize.apply(normalize.init((3,)), X[:4] / 50.0), X[:4] / 50.0, rtol=1e-6)


def test_an_empty_batch_changes_nothing():
    empty = np.zeros((0, 3), np.float32)
    jax.tree.map(np.testing.assert_array_equal, of(X, empty), of(X))
    jax.tree.map(np.testing.assert_array_equal, of(empty), normalize.init((3,)))


def test_past_the_last_whole_float32_the_statistics_stand_still():
    full = normalize.Statistics(jnp.float32(2.0**24), jnp.zeros(1), jnp.full(1, 2.0**24))
    ones = np.random.default_rng(0).normal(size=(2000, 1, 1)).astype(np.float32)
    state, _ = jax.lax.scan(lambda state, x: (normalize.update(state, x), None), full, ones)
    np.testing.assert_allclose(normalize.variance(state), [1.0], rtol=1e-3)
    np.testing.assert_allclose(state.mean, [0.0], atol=1e-3)


def test_jit_scan_and_vmap_give_the_same_numbers():
    chunks = X.reshape(6, 40, 3)
    expected = of(*chunks, update=normalize.update)
    scanned, _ = jax.lax.scan(lambda s, x: (normalize.update(s, x), None), normalize.init((3,)), chunks)
    for state in (scanned, of(*chunks)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, expected)
    mapped = jax.jit(jax.vmap(lambda chunk: normalize.update(normalize.init((3,)), chunk)))(chunks)
    for i, chunk in enumerate(chunks):
        alone = of(chunk)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5), mapped, alone)
    x = chunks[0]
    np.testing.assert_allclose(jax.jit(normalize.apply)(expected, x), normalize.apply(expected, x), rtol=1e-6)
    each = jax.vmap(normalize.apply, (None, 0))(expected, x)
    np.testing.assert_allclose(each, normalize.apply(expected, x), rtol=1e-5, atol=1e-6)


def test_no_gradient_flows_into_the_statistics():
    state = of(X)
    to_statistics, to_x = jax.jit(jax.grad(lambda s, x: jnp.sum(normalize.apply(s, x)), (0, 1)))(state, X[0])
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(to_statistics))
    np.testing.assert_allclose(to_x, 1.0 / np.asarray(X, np.float64).std(0), rtol=1e-4)


def test_other_types_are_taken_as_float32():
    assert_describes(of(X.astype(np.float64)), X)
    images = np.random.default_rng(1).integers(0, 256, (8, 3), dtype=np.uint8)
    assert_describes(of(images), images)
    assert normalize.apply(of(X), jnp.asarray(X, jnp.bfloat16)).dtype == jnp.float32

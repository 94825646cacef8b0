"""Running statistics against NumPy's in float64, however the observations came in."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gaussjax.torch  # noqa: F401  With it the formulas run on tensors.
from gaussjax import normalize

X = np.random.default_rng(0).normal([0.0, 5.0, -300.0], [1.0, 0.01, 40.0], (240, 3)).astype(np.float32)


update = jax.jit(normalize.update)
several = jax.jit(lambda state, xs: jax.lax.scan(lambda state, x: (normalize.update(state, x), None), state, xs)[0])


def exact(state, name, at=()):
    """The exact number that a field and its rest hold, at a place of the observation."""
    return sum(
        Fraction(np.asarray(word)[at].item()) for word in (getattr(state, name), *getattr(state, f"{name}_rest"))
    )


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


# Without compilation a thousand updates take minutes.
@pytest.mark.parametrize("chunks", [1, 10, pytest.param(1000, marks=pytest.mark.without("jax_disable_jit"))])
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


# Count, mean and squared deviations to begin with; mean of the normal samples that follow; samples in a batch.
LATE = {
    "float32 cannot count single samples": (2**24, 0.0, 2.0**24, 0.0, 1),
    "shifted single samples": (10**12, 0.0, 1e12, 5.0, 1),
    "shifted batches": (10**12, 0.0, 1e12, 5.0, 64),
    "fewer samples before the shift": (10**10, 0.0, 1e10, 5.0, 64),
    "shifted far from zero": (10**12, 1e4, 1e12, 1e4 + 5.0, 1),
    "narrow after wide": (10**10, 0.0, 1e16, 0.0, 1),
}


# Without compilation 512 updates take minutes.
@pytest.mark.without("jax_disable_jit")
@pytest.mark.parametrize("row", LATE)
def test_each_sample_counts_after_many_others(row):
    count, mean, m2, shift, size = LATE[row]
    samples = np.random.default_rng(0).normal(shift, 1.0, (512, size)).astype(np.float32)
    before = normalize.Statistics(count, mean, m2)
    after = several(before, samples)
    numbers = [Fraction(x) for x in samples.ravel().tolist()]
    here, total = sum(numbers) / len(numbers), count + len(numbers)
    moved = (here - Fraction(mean)) * len(numbers) / total
    grown = sum((x - here) ** 2 for x in numbers) + (here - Fraction(mean)) ** 2 * len(numbers) * count / total
    assert exact(after, "count") == total
    assert abs(exact(after, "mean") - Fraction(mean) - moved) < 1e-5 * abs(moved)
    assert abs(exact(after, "m2") - Fraction(m2) - grown) < 1e-5 * grown
    np.testing.assert_allclose(normalize.variance(after), float((Fraction(m2) + grown) / total), rtol=1e-6)


@pytest.mark.without("jax_enable_x64")
@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("library", ["numpy", "jax"])
def test_float64_far_from_zero_keeps_its_digits(offset, library, request):
    if library == "jax":
        request.getfixturevalue("x64")
    x = offset + np.random.default_rng(0).normal(size=(4, 50, 2))
    state = several(normalize.init((2,)), x) if library == "jax" else of(*x, shape=(2,), update=normalize.update)
    flat, mean = x.reshape(-1, 2), x.mean((0, 1))
    np.testing.assert_allclose([float(exact(state, "mean", at) - Fraction(mean[at])) for at in (0, 1)], 0.0, atol=1e-6)
    np.testing.assert_allclose(normalize.variance(state), flat.var(0), rtol=1e-6)
    seen = normalize.apply(state, flat)
    assert seen.dtype == (jnp.float64 if library == "jax" else jnp.float32)
    np.testing.assert_allclose(seen, (flat - mean) / flat.std(0), atol=2e-6)
    tensors = jax.tree.map(lambda part: torch.tensor(np.asarray(part)), state)
    for observations in (flat, torch.from_numpy(flat)):
        np.testing.assert_allclose(normalize.apply(tensors, observations), (flat - mean) / flat.std(0), atol=2e-6)


def test_float32_far_from_zero_keeps_its_digits():
    x = np.random.default_rng(0).normal(1e4, 1.0, (40, 64, 1)).astype(np.float32)
    state, wide = several(normalize.init((1,)), x), x.astype(np.float64)
    np.testing.assert_allclose(normalize.variance(state), [wide.var()], rtol=1e-6)
    np.testing.assert_allclose(normalize.apply(state, x), (wide - wide.mean()) / wide.std(), atol=2e-6)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, torch.from_numpy])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_integers_far_from_zero_keep_their_digits(dtype, make, wide, request):
    if wide:
        request.getfixturevalue("x64")
    x = 1_000_000_000 + np.random.default_rng(0).integers(0, 4, (50, 2)).astype(dtype)
    tensors, given = make is torch.from_numpy, make(x.astype(np.int32) if make is jnp.asarray and not wide else x)
    state = normalize.update(normalize.init((2,)), x if tensors else given)
    np.testing.assert_allclose(normalize.variance(state), x.var(0), rtol=1e-5)
    state = jax.tree.map(lambda part: torch.tensor(np.asarray(part)), state) if tensors else state
    seen = [normalize.apply(state, given)]
    if not tensors:
        seen.append(jax.jit(normalize.apply)(state, given))
    for each in seen:
        np.testing.assert_allclose(each, (x - x.mean(0)) / x.std(0), atol=1e-5)


def test_statistics_from_three_numbers_keep_their_digits():
    for kind in (float, np.float64, lambda x: torch.tensor(x, dtype=torch.float64)):
        state = normalize.Statistics(*map(kind, (2.0**40 + 1.0, 1e8 + 1.0 / 3.0, 3.0)))
        assert (exact(state, "count"), exact(state, "mean")) == (2**40 + 1, Fraction(1e8 + 1.0 / 3.0))
        seen = normalize.apply(state, np.array(1e8 + 1.0 / 3.0 + 1e-4))
        np.testing.assert_allclose(seen, 1e-4 / np.sqrt(3.0 / 2.0**40 + 1e-8), rtol=1e-3)
    integers = np.array([2**40, 2**40 + 2])
    seen = normalize.apply(normalize.update(normalize.init(()), integers), integers)
    np.testing.assert_allclose(seen, [-1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("huge", [2e19, -1e30, 1e300])
def test_after_a_huge_value_the_statistics_are_numbers(huge):
    x = np.concatenate([[[huge]], X[:7, :1]])
    for first in (x, np.clip(x, -3e38, 3e38).astype(np.float32)):
        state = normalize.update(normalize.update(normalize.init((1,)), first), X[:, :1])
        assert all(np.isfinite(part).all() for part in state)
        assert state.count == 8 + len(X)
        assert np.isfinite(normalize.apply(state, first)).all()


def test_a_batch_whose_squares_overflow_is_left_out():
    before = of(X)
    wild = np.resize([[2e19], [-2e19]], (40, 3)).astype(np.float32)
    jax.tree.map(np.testing.assert_array_equal, of(X, wild), before)
    # The largest spread that 10**12 samples may have.
    state = several(normalize.Statistics(10**12, 0.0, 1e12 * 1e26), np.full((3, 2), 1e13, np.float32))
    assert exact(state, "count") == 10**12 + 6
    np.testing.assert_allclose(normalize.variance(state), 1e26, rtol=1e-5)


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 1)])
def test_nan_and_infinity_show_in_the_squared_deviations(value, place):
    x = X[:8].copy()
    x[place] = value
    for batch in (x, x.astype(np.float64), np.where(np.isfinite(x), 3e19 * np.sign(x), x).astype(np.float32)):
        for before in (normalize.init((3,)), of(X)):
            assert not np.isfinite(normalize.update(before, batch).m2).all()


def test_the_clip_belongs_to_the_statistics():
    state = normalize.update(normalize.init((1,), clip=0.5), np.array([[1.0], [3.0]], np.float32))
    x = np.array([[1.9], [9.0]], np.float32)
    np.testing.assert_allclose(normalize.apply(state, x), [[-0.1], [0.5]], rtol=1e-5)
    np.testing.assert_allclose(normalize.apply(state, x, clip=2.0), [[-0.1], [2.0]], rtol=1e-5)
    for clip in (0.0, -1, np.nan):
        with pytest.raises(ValueError, match=r"clip: expected a number above 0, got"):
            normalize.init((1,), clip)
        with pytest.raises(ValueError, match=r"clip: expected a number above 0, got"):
            normalize.apply(state, x, clip)


def test_statistics_of_several_runs_are_updated_at_once():
    runs = jax.vmap(lambda x: normalize.update(normalize.init((3,)), x))(X.reshape(4, 60, 3))
    both = jax.jit(jax.vmap(normalize.update))(runs, X.reshape(4, 60, 3)[::-1])
    for i, (first, second) in enumerate(zip(X.reshape(4, 60, 3), X.reshape(4, 60, 3)[::-1], strict=True)):
        alone = of(first, second)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), both, alone)


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
    assert_describes(normalize.update(normalize.init((3,)), torch.from_numpy(X)), X)
    np.testing.assert_array_equal(normalize.apply(of(X), torch.from_numpy(X)), normalize.apply(of(X), X))
    images = np.random.default_rng(1).integers(0, 256, (8, 3), dtype=np.uint8)
    assert_describes(of(images), images)
    assert normalize.apply(of(X), jnp.asarray(X, jnp.bfloat16)).dtype == jnp.float32


def test_a_reduction_needs_fewer_kernels(monkeypatch):
    """Holds as long as XLA does not fuse a chain of exact sums by itself."""

    def kernels():
        program = jax.jit(lambda *terms: normalize._total(*terms)).lower(*np.ones((5, 3), np.float32)).compile()
        entry = program.as_text()[program.as_text().index("ENTRY") :]
        return entry.count("calls=") + entry.count("to_apply=")

    def loop(columns, start, add, axes):
        for entries in zip(*columns, strict=True):
            start = add(start, entries)
        return start

    one = kernels()
    monkeypatch.setattr(jax.lax, "reduce", loop)
    assert one < 0.5 * kernels()

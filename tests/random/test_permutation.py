import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gaussjax.random.permutation import permutation

LEAST = 1e-3


def orders(count, draws, seed=0):
    return np.asarray(jax.vmap(lambda key: permutation(key, count))(jax.random.split(jax.random.key(seed), draws)))


MORE = [pytest.param(count, marks=pytest.mark.slow) for count in (2, 1000, 1024, 2049, 4096)]


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 100_000, *MORE])
def test_each_number_comes_once(count):
    order = permutation(jax.random.key(count), count)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


def test_every_order_of_few_is_as_likely_as_any_other():
    found = orders(4, 24_000)
    assert np.all(np.sort(found, axis=1) == np.arange(4))
    counts = np.unique(found @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > LEAST


@pytest.mark.parametrize("count", [512, 600])
def test_of_many_each_number_is_as_likely_in_each_place_and_beside_each_other(count):
    found = orders(count, 4000)
    cells = np.bincount((found * 8 // count * 8 + np.arange(count) * 8 // count).ravel(), minlength=64)
    sizes = np.bincount(np.arange(count) * 8 // count)
    expected = found.shape[0] * np.outer(sizes, sizes).ravel() / count
    # Rows and columns of the table are given: 7 × 7 numbers are free.
    assert stats.chi2.sf(np.sum((cells - expected) ** 2 / expected), 49) > LEAST
    neighbours = np.diff(found, axis=1) % count
    counts = np.bincount(neighbours.ravel(), minlength=count)[1:]
    expected = [(count - distance) + distance for distance in range(1, count)]
    assert stats.chisquare(counts, np.array(expected) * counts.sum() / np.sum(expected)).pvalue > LEAST


@pytest.mark.parametrize("count", [512, 600])
def test_cycles_of_many_are_those_of_random_orders(count):
    found = orders(count, 4000, seed=1)
    # Numbers that stay in place: a Poisson variable of mean 1.
    fixed = np.sum(found == np.arange(count), axis=1)
    counts = np.bincount(np.minimum(fixed, 5), minlength=6)
    chances = np.append(stats.poisson.pmf(np.arange(5), 1.0), stats.poisson.sf(4, 1.0))
    assert stats.chisquare(counts, chances * len(found)).pvalue > LEAST
    # The cycle that holds 0 is as likely of any length.
    at, length = found[:, 0], np.ones(len(found))
    while np.any(at != 0):
        length += at != 0
        at = np.where(at != 0, np.take_along_axis(found, at[:, None], axis=1)[:, 0], 0)
    assert stats.kstest((length - 0.5) / count, "uniform").pvalue > LEAST


@pytest.mark.parametrize("count", [512, 1024, pytest.param(4096, marks=pytest.mark.slow)])
def test_half_of_all_orders_are_odd(count):
    found = orders(count, 64)
    # The inversions of a permutation have the parity of its transpositions.
    odd = [sum(np.sum(order[i + 1 :] < order[i]) for i in range(count)) % 2 for order in found]
    # Binomial(64, 1/2): mean 32, deviation 4.
    assert abs(sum(odd) - 32) < 5 * 4


def test_keys_that_differ_by_a_bit_give_orders_that_have_nothing_in_common():
    one, other = (np.asarray(permutation(jax.random.key(seed), 4096)) for seed in (0, 1))
    assert abs(stats.pearsonr(one, other).statistic) < 4.0 / np.sqrt(4096)
    assert np.sum(one == other) < 8


def test_a_permutation_of_jax_is_two_sorts():
    """When this fails, measure whether the cipher is needed any longer."""
    drawn = jax.jit(lambda key: jax.random.permutation(key, 2048))
    assert drawn.lower(jax.random.key(0)).compile().as_text().count(" sort(") == 2

"""The functions that formulas are written in: one formula for JAX's and torch's arrays."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import gaussjax.torch  # noqa: F401
from gaussjax.core.arrays import elementwise, inwards, like_actions, on_bounds, xp


@elementwise(lambda x, y: (y * xp.cos(x), xp.sin(x)))
def wave(x, y):
    return y * xp.sin(x)


def test_given_slopes_are_differentiated_twice_in_both_modes():
    check_grads(wave, (jnp.linspace(-2.0, 2.0, 5), jnp.full(5, 0.7)), order=2, modes=("fwd", "rev"), rtol=2e-2)


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor], ids=["jax", "torch"])
def test_a_formula_keeps_the_library_of_its_arrays(array):
    x = array(np.float32([0.5, -1.0]))
    found = wave(x, xp.zeros_like(x) + 2.0)
    assert type(found) is type(x)
    np.testing.assert_allclose(np.asarray(found), 2.0 * np.sin([0.5, -1.0]), rtol=1e-6)
    assert isinstance(xp.concatenate([x, x]), type(x))


@pytest.mark.parametrize("array", [jnp.asarray, torch.tensor], ids=["jax", "torch"])
def test_the_common_dtype_is_float32_at_the_least(array):
    for dtype in (np.int32, np.float16, np.float32):
        found = xp.at_least_float32(array(np.ones(2, dtype)), array(np.ones(3, np.float16)))
        assert [str(one.dtype).removeprefix("torch.") for one in found] == ["float32", "float32"]


BOUNDS = np.array(
    [[-0.1, 0.1], [-1 / 3, 1 / 3], [-0.7, 0.3], [1e-3, 0.7], [-2.0, 2.0], [-np.inf, 0.3], [-1e39, 1e39]]
).T


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_bounds_are_rounded_to_the_nearest_numbers_between_them(dtype):
    dtype = jnp.dtype(dtype)
    (low, high), infinity = BOUNDS, np.array(np.inf, dtype)
    sides = inwards(low, high, dtype)
    lowest, highest = (side.astype(dtype) for side in sides)
    np.testing.assert_array_equal(sides, [lowest.astype(float), highest.astype(float)])
    assert np.all((low <= sides[0]) & (sides[1] <= high))
    assert np.all(np.isinf(lowest) == np.isinf(low))
    within = np.abs(low) < 1e4
    assert np.all(np.nextafter(lowest[within], -infinity).astype(float) < low[within])
    assert np.all(np.nextafter(highest[within], infinity).astype(float) > high[within])


def test_bounds_without_a_number_between_them_become_the_nearest_one():
    low, high = np.array([0.1, 1e-40, 0.5]), np.array([0.1 + 1e-12, 2e-40, 0.5])
    for side in inwards(low, high, np.dtype("float32")):
        np.testing.assert_array_equal(side, np.float32([0.1, 0.0, 0.5]))


def test_bounds_beyond_the_largest_number_become_it():
    low, high = np.array([-np.inf, -1e300, 1e200]), np.array([-1e200, 1e300, np.inf])
    largest = float(np.finfo(np.float32).max)
    np.testing.assert_array_equal(
        inwards(low, high, np.dtype("float32")), [[-np.inf, -largest, largest], [-largest, largest, np.inf]]
    )


def test_zero_lies_between_subnormal_bounds():
    # XLA treats subnormal numbers as zero.
    lowest, highest = inwards(np.array([-1e-40, 1e-40]), np.array([1e-40, 1.0]), np.dtype("float32"))
    np.testing.assert_array_equal(lowest, np.float32([0.0, 2.0**-126]))
    np.testing.assert_array_equal(highest, np.float32([0.0, 1.0]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("array", [jnp.asarray, lambda x, dtype: torch.tensor(x).to(getattr(torch, dtype))])
def test_copies_of_actions_on_a_bound_are_on_it_in_every_dtype(dtype, array, x64):
    low, high = BOUNDS[:, :4]
    for precision in ("float32", "float64"):
        lowest, highest = inwards(low, high, np.dtype(precision))
        for actions, at_low, at_high in ((lowest, True, False), (highest, False, True), (lowest + 0.05, False, False)):
            found = on_bounds(low, high, array(actions, dtype))
            assert [np.asarray(side).tolist() for side in found] == [[at_low] * 4, [at_high] * 4]
    sides = like_actions(low, high, array(low, dtype))
    lowest, highest = (np.asarray(side.double() if torch.is_tensor(side) else side, float) for side in sides)
    assert np.all((low <= lowest) & (highest <= high))

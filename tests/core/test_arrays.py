"""The functions that formulas are written in: one formula for JAX's and torch's arrays."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.test_util import check_grads

import gaussjax.torch  # noqa: F401
from gaussjax.core.arrays import elementwise, xp


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

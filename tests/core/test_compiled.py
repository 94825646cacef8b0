"""Compiled functions are `jax.jit` but for the look at NumPy arguments."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.core.compiled import Compiled


def add(x, y=0.0, *, times=1):
    return times * (x["a"] + y)


compute = Compiled(add, ("times",))
GOOD = {"a": np.ones(3, np.float32)}


def test_it_has_the_methods_of_jit():
    assert compute.__name__ == "add"
    assert "lambda" not in compute.lower(GOOD).as_text()
    assert compute.eval_shape(GOOD).shape == (3,)
    assert compute.trace(GOOD, times=2).jaxpr.jaxpr.outvars
    assert compute(GOOD, times=2).tolist() == compute.jit(GOOD, times=2).tolist() == [2.0, 2.0, 2.0]
    compute.clear_cache()


@pytest.mark.without("jax_enable_x64")
def test_a_transformed_function_lowers_and_traces_itself():
    double = Compiled(lambda x: 2 * x)
    transformed = jax.jit(jax.vmap(double))
    assert "8x3xf32" in transformed.lower(jnp.ones((8, 3))).as_text()
    assert transformed.eval_shape(jnp.ones((8, 3))).shape == (8, 3)
    policy = gaussjax.gaussian(gaussjax.networks.MLP((4,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
    many = jax.jit(jax.vmap(policy.init)).lower(jax.random.split(jax.random.key(0), 5)).out_info
    assert {leaf.shape[0] for leaf in jax.tree.leaves(many)} == {5}


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1]])
def test_it_becomes_part_of_other_programs(transform):
    assert transform(compute)({"a": jnp.ones(3)}).tolist() == [1.0, 1.0, 1.0]


BAD = {
    "byte order": (np.ones(3, ">f4"), "x['a']: expected native byte order, got >f4."),
    "mask": (np.ma.masked_array(np.ones(3, np.float32), mask=[0, 1, 0]), "x['a']: expected an array without a mask"),
    "text": (np.array(["a"]), "x['a']: expected real numbers, got <U1."),
    "objects": (np.array([None]), "x['a']: expected real numbers, got object."),
    "complex": (np.ones(3, np.complex64), "x['a']: expected real numbers, got complex64."),
    "dates": (np.array(["2026-01-01"], "datetime64[D]"), "x['a']: expected real numbers, got datetime64[D]."),
    "Python text": ("a", "x['a']: expected numbers in arrays of JAX or NumPy, got str. Convert every leaf first, with"),
    "a function": (np.sin, "x['a']: expected numbers in arrays of JAX or NumPy, got ufunc. Pass the arrays that a fu"),
}


@pytest.mark.parametrize(("value", "says"), BAD.values(), ids=BAD)
def test_arrays_whose_memory_is_not_their_numbers_are_refused(value, says):
    compute(GOOD)
    for arguments, options in ((({"a": value},), {}), ((), {"x": {"a": value}})):
        with pytest.raises(TypeError, match=re.escape(says)):
            compute(*arguments, **options)


@pytest.mark.parametrize("number", [2**32 + 5, -(2**40), 2**31])
def test_integers_beyond_32_bits_do_not_wrap(number):
    got = compute({"a": np.array([number, 5])})
    assert got.tolist() == [np.float32(number), 5.0]


@pytest.mark.without("jax_enable_x64")
def test_small_integers_stay_integers():
    assert Compiled(lambda x: x)(np.array([2**31 - 1, -(2**31)])).dtype == jnp.int32


@pytest.mark.without("jax_disable_jit")
def test_arguments_have_the_types_of_jit_without_compilation_too():
    seen = []

    def see(**arguments):
        seen.append([(leaf.dtype, leaf.weak_type, leaf.shape) for leaf in jax.tree.leaves(arguments)])

    arguments = {"key": 1, "a": [True, 0.5, 2**40], "b": np.float64(2), "c": {"d": np.arange(3), "e": None}}
    Compiled(see)(**arguments)
    with jax.disable_jit():
        Compiled(see)(**arguments)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("value", [jnp.ones(3, jnp.bfloat16), np.ones(3, jnp.bfloat16), np.float64(1), 1, True])
def test_numbers_of_every_kind_pass(value):
    with jax.numpy_dtype_promotion("standard"):
        assert compute({"a": value}).tolist() == np.ones(np.shape(value)).tolist()


def test_python_reports_wrong_arguments():
    with pytest.raises(TypeError, match="missing"):
        compute()
    with pytest.raises(TypeError, match="unexpected keyword"):
        compute(GOOD, wrong=1)

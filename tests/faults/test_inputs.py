"""Catalogue of wrong inputs: each row eager, under jit and under vmap, and hundreds of random variants."""

import functools
import re
from typing import Any

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from tests import policies
from tests.faults import arguments, catalogue
from tests.policy import test_checks as test_faults
from tests.policy import test_strict as test_strictness
from tests.policy.test_checks import Fault, twice, zeros

TRANSFORMS = ("eager", "jit", "vmap")


def outcome(fault, transform):
    """Error of a call with a fault, or None if there was none."""
    call = functools.partial(test_faults.call, fault)
    try:
        if transform == "jit" and fault.under_vmap:
            jax.jit(call)(fault.arguments)
        elif transform == "jit":
            jax.jit(lambda: call(fault.arguments))()
        elif transform == "vmap" and fault.under_vmap:
            stacked = jax.tree.map(twice, fault.arguments)
            jax.vmap(lambda arguments, _: call(arguments))(stacked, np.arange(2))
        else:
            call(fault.arguments)
    except Exception as error:
        return error
    return None


@pytest.mark.slow
def test_catalogue_is_complete(record_bar):
    host, values = test_faults.HOST_FAULTS, test_strictness.VALUES
    silent = 0
    for fault in test_faults.FAULTS.values():
        silent += sum(outcome(fault, transform) is None for transform in TRANSFORMS)
    calls = [*host.values(), *(functools.partial(test_strictness.call, *row, strict=True) for row in values.values())]
    for call in calls:
        try:
            call()
            silent += 1
        except (ValueError, TypeError):
            pass
    tried = 3 * len(test_faults.FAULTS) + len(host) + len(values)
    record_bar("inputs", "rows of the catalogue × {eager, jit, vmap}, silent", tried, silent, 0)
    assert silent == 0


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_every_wrong_value_gets_its_text_bare_and_compiled(every, record_bar):
    rows = list(catalogue.rows())
    calls = [(row, traced) for row in rows for traced in (False, True) if row.traced or not traced][::every]
    wrong = [error for row, traced in calls if (error := arguments.fault(row, traced))]
    if every == 1:
        assert len(calls) >= 600
        what = "wrong values and options, bare and under jit, silent or with another text"
        record_bar("inputs", what, len(calls), len(wrong), 0)
    assert wrong == []


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)
reals = st.sampled_from([np.float32, np.float16, np.int32, np.int8, np.bool_, np.uint8])


def wrong_width(shape):
    return not shape or shape[-1] != 3


def wrong_params(draw):
    params = jax.tree.map(np.asarray, policies.make("gaussian")[1])
    leaves, structure = jax.tree.flatten(params)
    i = draw(st.integers(0, len(leaves) - 1))
    leaves[i] = zeros(*draw(shapes.filter(lambda shape: shape != leaves[i].shape)))
    return structure.unflatten(leaves)


@st.composite
def faults(draw):
    kind = draw(st.sampled_from(["observations", "taken_actions", "noise", "key", "params", "carry", "resets"]))
    function, policy, arguments = "act", draw(st.sampled_from(["gaussian", "squashed", "gaussian-clipped"])), {}
    if kind in ("observations", "taken_actions", "params") and draw(st.booleans()):
        function, arguments["taken_actions"] = "evaluate", zeros(4, 2)
    if kind == "observations":
        value: Any = np.zeros(draw(shapes.filter(wrong_width)), draw(reals))
    elif kind in ("taken_actions", "noise"):
        value = np.zeros(draw(shapes.filter(lambda shape: shape != (4, 2))), draw(reals))
    elif kind == "key":
        dtype = draw(st.sampled_from([np.int32, np.uint32, np.float32, np.int8]))
        value = np.zeros(draw(shapes.filter(lambda shape: shape != (2,) or dtype != np.uint32)), dtype)
    elif kind == "params":
        value, policy = wrong_params(draw), "gaussian"
    elif kind == "carry":
        value, policy = (zeros(*draw(shapes.filter(lambda shape: shape not in ((4, 6), (6,))))),), "gaussian-gru"
    else:
        shape, policy, arguments["carry"] = draw(shapes), "gaussian-gru", (zeros(4, 6),)
        types = st.sampled_from([np.bool_, np.int32, np.float32])
        value = np.zeros(shape, draw(types.filter(lambda dtype: dtype is not np.bool_ or shape != (4,))))
    return Fault({**arguments, kind: value}, function, policy)


@pytest.mark.parametrize("count", [50, pytest.param(250, marks=pytest.mark.slow)])
def test_random_variants_are_refused(count, record_bar):
    tried, silent = [], []

    @hypothesis.settings(max_examples=count, deadline=None, database=None, derandomize=True)
    @hypothesis.given(faults(), st.sampled_from(TRANSFORMS))
    def variant(fault, transform):
        error = outcome(fault, transform)
        tried.append(fault)
        says = re.search(r"expected|is missing|is unknown", str(error))
        if not isinstance(error, (ValueError, TypeError)) or not says:
            silent.append((fault, transform, repr(error)[:300]))

    variant()
    if count == 250:
        what = "random variants (Hypothesis), silent or with an error of another kind"
        record_bar("inputs", what, len(tried), len(silent), 0)
    assert len(tried) >= 0.8 * count
    assert silent == []

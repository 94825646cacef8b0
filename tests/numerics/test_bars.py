"""Every bar of accuracy holds at the worst points found so far, at random ones, and in a search."""

import functools
from typing import Any

import numpy as np
import pytest

from tests.numerics.measure import MODES, errors, truths, worst
from tests.numerics.points import Inputs
from tests.numerics.rows import ROWS
from tests.numerics.search import kept, largest, read, search

# torch's own forward mode calls torch.jit.script, which torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")

# The other modes compile again what these compile; torch.compile takes a minute a case, so only the search uses it.
FAST = {("float32", "JAX jit"), ("float64", "JAX jit"), ("float32", "torch eager")}
CASES = [
    pytest.param(name, dtype, mode, marks=() if (dtype, mode) in FAST else pytest.mark.slow)
    for name, row in ROWS.items()
    for dtype in row.dtypes
    for mode in MODES
    if mode != "torch compile"
]


@functools.cache
def _points(name: str, dtype: str) -> tuple[Inputs, list[Any]]:
    row, worst_ones = ROWS[name], kept(read()[name], dtype)
    random = row.inputs(row.exact // 100, dtype, seed=0)
    inputs = tuple(np.concatenate([a.astype(b.dtype), b]) for a, b in zip(worst_ones or random, random, strict=True))
    return inputs, truths(row, inputs, row.order, by_formula=False)


@pytest.mark.parametrize(("name", "dtype", "mode"), CASES)
def test_bars_hold_at_the_worst_points_of_earlier_searches(name: str, dtype: str, mode: str) -> None:
    row, (inputs, truth) = ROWS[name], _points(name, dtype)
    found = largest(row, worst(errors(row, inputs, mode, truth, row.order), inputs))
    for order, one in enumerate(found):
        assert one.units <= row.bar(order, dtype), one


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_bars_hold_in_a_search(name: str) -> None:
    row = ROWS[name]
    found = search(row, "float32", {"JAX jit": row.points}, seed=2)
    for order, one in enumerate(found["JAX jit"]):
        assert one.units <= row.bar(order, "float32"), one


@pytest.mark.parametrize("mode", ["JAX jit", "torch eager"])
def test_the_squashed_density_corrects_the_rounding_of_its_noise(mode: str) -> None:
    # Without this correction JAX is off by 6.6 units here.
    row = ROWS["squashed log_prob of raw actions"]
    inputs = tuple(np.full((8, 1), number, np.float32) for number in (8.57943916, -4.5321312, 8.9301796))
    truth = truths(row, inputs, row.order, by_formula=False)
    value = largest(row, worst(errors(row, inputs, mode, truth, row.order), inputs))[0]
    assert value.units <= row.bar(0, "float32"), value

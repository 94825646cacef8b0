"""Every bar of accuracy, eager and compiled, values and gradients."""

import contextlib

import jax
import pytest

from tests.numerics.measure import UNIT, compare, evaluate_jax
from tests.numerics.modes import EAGER_AND_JIT
from tests.numerics.rows import ROWS, Row


def _x64(dtype: str) -> contextlib.AbstractContextManager:
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
@pytest.mark.parametrize(
    ("row", "dtype"), [pytest.param(row, dtype, id=f"{row.name}-{dtype}") for row in ROWS for dtype in row.dtypes]
)
def test_errors_stay_below_the_bar(row: Row, dtype: str, compiled: bool) -> None:
    with _x64(dtype):
        results = evaluate_jax(row.ours, row.rounded(dtype), row.gradients_by(dtype), compiled)
    # bfloat16 inputs give float32 results.
    returned = "float32" if dtype == "bfloat16" else dtype
    assert {got.dtype.name for got in results} == {returned}
    truths = row.truths(dtype)[: len(results)]
    errors = [compare(got, truth, UNIT[returned]) for got, truth in zip(results, truths, strict=True)]
    assert [error.bad for error in errors] == [0] * len(errors)
    for error, bar in zip(errors, row.bars(dtype), strict=True):
        assert bar is None or error.units <= bar

"""Every bar of accuracy, eager and compiled, values and gradients."""

from __future__ import annotations

import contextlib

import jax
import pytest

from tests.numerics.measure import UNIT, compare, evaluate_jax
from tests.numerics.rows import ROWS, Row


def _x64(dtype: str) -> contextlib.AbstractContextManager:
    return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("row", "dtype"), [pytest.param(row, dtype, id=f"{row.name}-{dtype}") for row in ROWS for dtype in row.dtypes]
)
def test_errors_stay_below_the_bar(row: Row, dtype: str, compiled: bool) -> None:
    with _x64(dtype):
        results = evaluate_jax(row.ours, row.rounded(dtype), row.by, compiled)
    bars = [row.bar, *[row.gradient_bar] * len(row.by)]
    errors = [compare(got, truth, UNIT[dtype]) for got, truth in zip(results, row.truths(dtype), strict=True)]
    print(row.name, dtype, [round(e.units, 2) for e in errors])
    assert [error.bad for error in errors] == [0] * len(errors)
    assert all(got.dtype == dtype for got in results)
    for error, bar in zip(errors, bars, strict=True):
        assert error.units <= bar

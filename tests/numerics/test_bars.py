"""Every bar of accuracy, eager and compiled, values and gradients."""

import jax
import pytest

from tests.numerics.measure import UNIT, compare, evaluate_jax
from tests.numerics.modes import EAGER_AND_JIT
from tests.numerics.rows import ROWS, Row


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
@pytest.mark.parametrize(
    ("row", "dtype"), [pytest.param(row, dtype, id=f"{row.name}-{dtype}") for row in ROWS for dtype in row.dtypes]
)
def test_errors_stay_below_the_bar(row: Row, dtype: str, compiled: bool) -> None:
    with jax.enable_x64(dtype == "float64"):
        results = evaluate_jax(row.ours, row.rounded(dtype), row.gradients_by(dtype), compiled)
    # bfloat16 inputs give float32 results.
    returned = "float32" if dtype == "bfloat16" else dtype
    assert {got.dtype.name for got in results} == {returned}
    truths = row.truths(dtype)[: len(results)]
    errors = [compare(got, truth, UNIT[returned]) for got, truth in zip(results, truths, strict=True)]
    assert [error.bad for error in errors] == [0] * len(errors)
    for error, bar in zip(errors, row.bars(dtype), strict=True):
        assert bar is None or error.units <= bar

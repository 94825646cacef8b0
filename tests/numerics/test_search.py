"""Every bar holds at the worst points found so far and in a search among random ones."""

import numpy as np
import pytest

from tests.numerics.search import ROWS, kept, random_chunks, worst


@pytest.mark.parametrize("name", ROWS)
def test_bars_hold_at_the_worst_points_of_earlier_searches(name: str) -> None:
    errors = [one.units for one in worst(ROWS[name], iter([kept()[name]]))]
    assert np.all(np.array(errors) <= ROWS[name].bars)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_bars_hold_in_a_search(name: str) -> None:
    errors = [one.units for one in worst(ROWS[name], random_chunks(ROWS[name], 20_000_000, seed=2))]
    assert np.all(np.array(errors) <= ROWS[name].bars)

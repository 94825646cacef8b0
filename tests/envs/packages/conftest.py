"""The code of other packages relies on NumPy's promotion of ranks, which the tests of gaussjax forbid."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def promoted_ranks() -> Iterator[None]:
    with jax.numpy_rank_promotion("allow"):
        yield

from __future__ import annotations

import jax
import numpy as np
from scipy import stats

from gaussjax.training.shuffle import permutation


def test_every_order_is_as_likely_as_any_other():
    orders = np.asarray(jax.vmap(lambda key: permutation(key, 4))(jax.random.split(jax.random.key(0), 24_000)))
    assert np.all(np.sort(orders, axis=1) == np.arange(4))
    counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3

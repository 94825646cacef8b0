"""Metrics that leave a compiled training while it runs."""

import jax
import numpy as np
import pytest

from gaussjax.training import evaluating, reporting
from tests.training import jax_probes
from tests.training.run.test_checkpoint import same
from tests.training.test_algorithm import LOOPS
from tests.training.test_evaluating import scanned


@pytest.mark.without("jax_debug_key_reuse")
@pytest.mark.parametrize("name", ["bc", pytest.param("ppo", marks=pytest.mark.slow)])
def test_a_compiled_population_reports_means_of_its_trainings_and_trains_alike(name):
    got, counter = [], jax_probes.counter(5)
    plain = evaluating(LOOPS[name](), counter, every=4, episodes=2)
    loop, keys = reporting(plain, got.append, every=2), jax.random.split(jax.random.key(0), 3)
    states, metrics = scanned(loop, keys, length=4)
    jax.effects_barrier()
    same((states, metrics), scanned(plain, keys, length=4))
    rows = sorted(got, key=lambda row: row["step"])
    assert [row["step"] for row in rows] == metrics["step"][0, 1::2].tolist()
    for i, row in enumerate(rows):
        np.testing.assert_allclose(row["entropy"], np.mean(metrics["entropy"][:, 2 * i + 1]), rtol=1e-5)
    # There is no evaluation in the second step of the loop.
    np.testing.assert_array_equal([row["evaluation_return"] for row in rows], [np.nan, 15.0])


def test_a_loop_of_python_reports_without_a_compiled_call():
    got = []
    loop = reporting(LOOPS["bc"](), got.append)
    _, metrics = loop.step(loop.init(jax.random.key(0)))
    assert {name: type(value) for name, value in got[0].items()} == dict.fromkeys(metrics, float) | {"step": int}
    # Under `vmap` outside of `jit` the counter of steps has a value, but the metrics have none.
    _, several = jax.vmap(lambda key: loop.step(loop.init(key)))(jax.random.split(jax.random.key(0), 3))
    jax.effects_barrier()
    assert len(got) == 2
    np.testing.assert_allclose(got[1]["entropy"], np.mean(several["entropy"]), rtol=1e-5)
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        reporting(loop, got.append, every=0)

"""What the bars say of types, of the edge of the Box, and of never failing at all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.distributions import DiagGaussian, MultivariateGaussian, TanhGaussian
from tests.numerics import reference
from tests.numerics.measure import evaluate
from tests.numerics.modes import EAGER_AND_JIT
from tests.numerics.rows import UNIT

EDGES = jnp.tile(jnp.array([-2.0, 2.0, jnp.nextafter(2.0, 0.0), -1.999, 0.0], jnp.float32), 168)


@pytest.mark.parametrize("name", ["entropy", "log_prob", "kl_divergence", "sample", "mean", "median", "mode", "stddev"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_every_result_is_float32_at_the_least(name: str, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        mean, log_std = jnp.zeros((2, 3), dtype), jnp.zeros(3, dtype)
        for one in (
            DiagGaussian(mean, log_std),
            TanhGaussian(mean, log_std, -1.0, 1.0),
            MultivariateGaussian(mean, log_std, jnp.zeros(3, dtype)),
        ):
            arguments = {"log_prob": (mean,), "kl_divergence": (one,), "sample": (jax.random.key(0),)}
            result = jax.eval_shape(getattr(one, name), *arguments.get(name, ()))
            assert result.dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
def test_actions_at_the_edge_have_finite_scores_and_gradients(compiled: bool, dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        actions = EDGES.astype(dtype)
        mean = jnp.linspace(-3.0, 3.0, actions.size, dtype=dtype)
        log_std = jnp.linspace(-5.0, 2.0, actions.size, dtype=dtype)
        results = evaluate(
            lambda m, s, a: TanhGaussian(m[:, None], s[:, None], -2.0, 2.0).log_prob(a[:, None]),
            (mean, log_std, actions),
            (0, 1, 2),
            mode="JAX jit" if compiled else "JAX eager",
        )
    assert [int(np.sum(~np.isfinite(result))) for result in results] == [0, 0, 0, 0]


def test_an_action_at_the_edge_counts_as_the_last_number_before_it() -> None:
    # u at 1 - 2⁻²⁴ in float32, 1 - 2⁻⁵³ in float64, by hand: atanh(1 - e) = log((2 - e)/e)/2.
    for dtype, edge in (("float32", 2.0**-24), ("float64", 2.0**-53)):
        with jax.enable_x64(dtype == "float64"):
            one = TanhGaussian(jnp.zeros(1, dtype), jnp.zeros(1, dtype), -3.0, 5.0)
            expected = 0.5 * float(reference.context.log((2 - edge) / edge))
            for action, sign in ((5.0, 1), (-3.0, -1), (9.0, 1), (-9.0, -1)):
                raw = one.unsquash(jnp.full((1,), action, dtype))
                np.testing.assert_allclose(raw, [sign * expected], rtol=4 * UNIT[dtype])


def test_raw_actions_score_saturated_actions_exactly() -> None:
    # At u = 20 the action is the bound itself, and only the raw one tells which density it had.
    mean, log_std, raw = (np.array([x], np.float32) for x in (19.0, -0.5, 20.0))
    one = TanhGaussian(jnp.asarray(mean), jnp.asarray(log_std), -2.0, 2.0)
    actions = one.squash(jnp.asarray(raw))
    truth = reference.squashed(*map(reference.exact, (mean, log_std, raw)), half=2.0)[0]
    assert float(actions[0]) == 2.0
    assert float(one.log_prob(actions, raw_actions=jnp.asarray(raw))) == pytest.approx(float(truth), rel=1e-6)
    assert abs(float(one.log_prob(actions)) - float(truth)) > 100

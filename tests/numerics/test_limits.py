"""What the bars say of types, of the edge of the Box, and of never failing at all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.distributions import DiagGaussian, MultivariateGaussian, TanhGaussian
from tests.numerics import reference
from tests.numerics.measure import UNIT, compare, evaluate_jax
from tests.numerics.modes import EAGER_AND_JIT
from tests.numerics.rows import ROWS

ROW = {row.name: row for row in ROWS}
OPTIONS = {"clip_log_std": False, "reduction": "none"}
EDGES = jnp.tile(jnp.array([-2.0, 2.0, jnp.nextafter(2.0, 0.0), -1.999, 0.0], jnp.float32), 168)


class Table(NamedTuple):
    """A network whose parameters are its outputs, so that a policy's gradients are seen bare."""

    count: int
    correlated: bool = False

    def init(self, key: jax.Array, observations: jax.Array) -> dict[str, jax.Array]:
        params = {"mean": jnp.zeros((self.count, 1)), "log_std": jnp.zeros((self.count, 1))}
        return {**params, "off_diagonal": jnp.zeros((self.count, 0))} if self.correlated else params

    def apply(self, params: dict[str, jax.Array], observations: jax.Array) -> tuple:
        outputs = {"off_diagonal": params["off_diagonal"]} if self.correlated else {}
        return params["mean"], params["log_std"], outputs


def _policy_log_prob(kind: str, count: int, mean: jax.Array, log_std: jax.Array, actions: jax.Array) -> jax.Array:
    factory = {"gaussian": gaussjax.gaussian, "multivariate": gaussjax.multivariate_gaussian}[kind]
    policy = factory(Table(count, kind == "multivariate"), 1, gaussjax.spaces.Box(shape=(1,)), **OPTIONS)
    params = {"mean": mean[:, None], "log_std": log_std[:, None]}
    if kind == "multivariate":
        params["off_diagonal"] = jnp.zeros((count, 0), mean.dtype)
    return policy.evaluate(params, jnp.zeros((count, 1)), actions[:, None]).log_prob[:, 0]


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
@pytest.mark.parametrize("kind", ["gaussian", "multivariate"])
def test_policies_score_actions_within_the_bar(kind: str, compiled: bool) -> None:
    row = ROW["normal log_prob"]
    inputs = row.rounded("float32")

    def function(*arguments: jax.Array) -> jax.Array:
        return _policy_log_prob(kind, arguments[0].shape[0], *arguments)

    with jax.disable_jit(not compiled):
        results = evaluate_jax(function, inputs, row.by, compiled)
    errors = [
        compare(got, truth, UNIT["float32"]) for got, truth in zip(results, row.truths("float32")[:3], strict=True)
    ]
    assert [error.bad for error in errors] == [0, 0, 0]
    assert errors[0].units <= 6
    assert max(error.units for error in errors[1:]) <= 8


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
        results = evaluate_jax(
            lambda m, s, a: TanhGaussian(m[:, None], s[:, None], -2.0, 2.0).log_prob(a[:, None]),
            (mean, log_std, actions),
            (0, 1, 2),
            compiled,
        )
    assert [int(np.sum(~np.isfinite(result))) for result in results] == [0, 0, 0, 0]


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
def test_the_squashed_policy_scores_the_edge(compiled: bool) -> None:
    policy = gaussjax.squashed_gaussian(Table(840), 1, gaussjax.spaces.Box(-2.0, 2.0, (1,)), **OPTIONS)
    params = {"mean": jnp.linspace(-3.0, 3.0, 840)[:, None], "log_std": jnp.linspace(-5.0, 2.0, 840)[:, None]}
    with jax.disable_jit(not compiled):
        value, gradient = jax.value_and_grad(
            lambda p: jnp.sum(policy.evaluate(p, jnp.zeros((840, 1)), EDGES[:, None]).log_prob)
        )(params)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


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
    truth = reference.squashed(*map(reference.exact, (mean, log_std, raw)), 2.0)[0][0]
    assert float(actions[0]) == 2.0
    assert float(one.log_prob(actions, raw_actions=jnp.asarray(raw))) == pytest.approx(float(truth), rel=1e-6)
    assert abs(float(one.log_prob(actions)) - float(truth)) > 100


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
def test_kl_is_never_negative_on_100000_pairs(compiled: bool) -> None:
    rng = np.random.default_rng(0)
    count = 50_000
    log_std, mean = rng.uniform(-20, 2, (count, 2)), rng.normal(size=(count, 2))
    near = 10.0 ** rng.uniform(-9, -1, (2, count, 2)) * rng.choice([-1, 1], (2, count, 2))
    far = rng.uniform(-5, 5, (2, count, 2))
    off = rng.normal(size=(2 * count, 1))
    apart = np.concatenate([near, far], axis=1)
    mean, log_std = np.concatenate([mean, mean]), np.concatenate([log_std, log_std])
    other_mean, other_log_std = mean + np.exp(log_std) * apart[0], np.clip(log_std + apart[1], -20, 2)
    inputs = [
        jnp.asarray(x, jnp.float32) for x in (mean, log_std, other_mean, other_log_std, off, off + apart[1][:, :1])
    ]

    def divergences(m: jax.Array, s: jax.Array, m2: jax.Array, s2: jax.Array, n: jax.Array, n2: jax.Array) -> tuple:
        return (
            DiagGaussian(m, s).kl_divergence(DiagGaussian(m2, s2), "none"),
            TanhGaussian(m, s, -1.0, 1.0).kl_divergence(TanhGaussian(m2, s2, -1.0, 1.0), "none"),
            MultivariateGaussian(m, s, n).kl_divergence(MultivariateGaussian(m2, s2, n2), "none"),
        )

    for divergence in (jax.jit(divergences) if compiled else divergences)(*inputs):
        assert int(jnp.sum(divergence < 0)) == 0
        assert bool(jnp.all(jnp.isfinite(divergence)))


@pytest.mark.parametrize("compiled", EAGER_AND_JIT)
def test_full_covariance_never_fails(compiled: bool) -> None:
    # 400 covariances of scales between e^-10 and e, on which a Cholesky factorisation fails.
    rng = np.random.default_rng(1)
    log_std, off = rng.uniform(-10, 1, (400, 6)), rng.normal(size=(400, 15))
    inputs = [jnp.asarray(x, jnp.float32) for x in (np.zeros((400, 6)), log_std, off)]
    noise = jnp.asarray(rng.normal(size=(400, 6)), jnp.float32)
    actions = MultivariateGaussian(*inputs).from_noise(noise)
    results = evaluate_jax(
        lambda *x: MultivariateGaussian(*x[:3]).log_prob(x[3]), (*inputs, actions), (0, 1, 2), compiled
    )
    assert [int(np.sum(~np.isfinite(result))) for result in results] == [0] * 4

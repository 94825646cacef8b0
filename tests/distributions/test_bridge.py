"""Our distributions under distrax's interface."""

import subprocess
import sys
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.distributions import (
    CensoredGaussian,
    DiagGaussian,
    Distribution,
    MultivariateGaussian,
    TanhGaussian,
    TruncatedGaussian,
)

with warnings.catch_warnings():
    # distrax loads TensorFlow Probability, which uses what JAX has deprecated.
    warnings.simplefilter("ignore")
    distrax = pytest.importorskip("distrax")
    from tensorflow_probability.substrates.jax import distributions as tfd

KEY = jax.random.key(0)
MEAN = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
KINDS = {
    "diagonal": lambda mean: DiagGaussian(mean, jnp.array([-0.5, 0.2])),
    "squashed": lambda mean: TanhGaussian(mean, jnp.array([-0.5, 0.2]), -2.0, (1.0, 3.0)),
    "truncated": lambda mean: TruncatedGaussian(mean, jnp.array([-0.5, 0.2]), -2.0, (1.0, 3.0)),
    "multivariate": lambda mean: MultivariateGaussian(mean, jnp.array([-0.5, 0.2]), jnp.array([0.7])),
}


# The bridge is the same code for every kind.
@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.slow if i else ()) for i, kind in enumerate(KINDS)])
def make(request: pytest.FixtureRequest) -> Callable[[jax.Array], Distribution]:
    return KINDS[request.param]


@pytest.mark.without("jax_debug_key_reuse")
def test_every_question_is_answered_by_ours(make: Callable) -> None:
    ours = make(MEAN)
    bridged, other = ours.as_distrax(), make(MEAN + 0.1)
    assert isinstance(bridged, distrax.Distribution)
    assert (bridged.batch_shape, bridged.event_shape, bridged.dtype) == ((4,), (2,), MEAN.dtype)
    assert bridged.sample(seed=1).shape == (4, 2)
    samples, log_prob = jax.jit(lambda b: b.sample_and_log_prob(seed=KEY, sample_shape=(3, 5)))(bridged)
    assert samples.shape == (3, 5, 4, 2)
    drawn = jax.jit(lambda d: d.sample_and_log_prob(KEY, (15,)))(ours)
    np.testing.assert_allclose(log_prob.reshape(15, 4), drawn[1])

    @jax.jit
    def answers(one, another, samples):
        of_none = ("entropy", "mean", "median", "mode", "stddev")
        found = {name: getattr(one, name)() for name in of_none}
        return {**found, "log_prob": one.log_prob(samples), "kl": one.kl_divergence(another)}

    expected = answers(ours, other, samples)
    for target in (other, other.as_distrax()):
        jax.tree.map(np.testing.assert_array_equal, answers(bridged, target, samples), expected)
    np.testing.assert_allclose(bridged.prob(samples), jnp.exp(ours.log_prob(samples)))
    derived = jax.jit(lambda b, target: (b.variance(), b.cross_entropy(target)))(bridged, other.as_distrax())
    by_ours = jax.jit(lambda d, o: (d.stddev() ** 2, d.kl_divergence(o) + d.entropy()))(ours, other)
    for one, value in zip(derived, by_ours, strict=True):
        np.testing.assert_allclose(one, value)
    np.testing.assert_array_equal(bridged[1:3].mean(), ours.mean()[1:3])


def test_a_part_of_a_batch_has_the_log_std_that_stands_for_all_dimensions() -> None:
    bridged = DiagGaussian(MEAN, jnp.float32(0.5)).as_distrax()
    np.testing.assert_array_equal(bridged[1:3].log_prob(MEAN[1:3]), bridged.log_prob(MEAN)[1:3])


@pytest.mark.without("jax_debug_key_reuse")
def test_it_survives_jit_and_vmap(make: Callable) -> None:
    ours = make(MEAN)
    through = jax.jit(lambda bridged: bridged)(ours.as_distrax())
    np.testing.assert_array_equal(through.mode(), ours.mode())
    batch = jax.vmap(lambda mean: make(mean).as_distrax())(MEAN)
    assert batch.event_shape == (2,)
    inside = jax.vmap(lambda mean: make(mean).as_distrax().sample_and_log_prob(seed=KEY)[1])(MEAN)
    assert inside.shape == (4,)
    entropies = jax.vmap(lambda bridged: bridged.entropy())(batch)
    np.testing.assert_allclose(entropies, ours.entropy(), rtol=1e-6)


@pytest.mark.without("jax_debug_key_reuse")
def test_it_works_inside_independent(make: Callable) -> None:
    ours = make(MEAN)
    wrapped, other = (distrax.Independent(make(mean).as_distrax(), 1) for mean in (MEAN, MEAN + 0.1))
    assert (wrapped.batch_shape, wrapped.event_shape) == ((), (4, 2))
    samples, log_prob = wrapped.sample_and_log_prob(seed=KEY)
    np.testing.assert_allclose(log_prob, wrapped.log_prob(samples), rtol=1e-3)
    np.testing.assert_allclose(wrapped.entropy(), ours.entropy().sum(), rtol=1e-6)
    np.testing.assert_allclose(wrapped.kl_divergence(other), ours.kl_divergence(make(MEAN + 0.1)).sum(), rtol=1e-6)


@pytest.mark.without("jax_debug_key_reuse")
def test_it_works_inside_transformed(make: Callable) -> None:
    ours = make(MEAN)
    doubled = distrax.Transformed(ours.as_distrax(), distrax.Block(distrax.ScalarAffine(0.0, 2.0), 1))
    samples, log_prob = jax.jit(lambda: doubled.sample_and_log_prob(seed=KEY))()
    assert (doubled.batch_shape, doubled.event_shape) == ((4,), (2,))
    np.testing.assert_allclose(log_prob, ours.log_prob(samples / 2.0) - 2 * np.log(2.0), atol=1e-4)
    np.testing.assert_allclose(doubled.log_prob(samples), log_prob, atol=1e-4)


# Normal distributions of distrax and TFP over vectors, from a mean, standard deviations and a triangular factor.
NORMALS = {
    "Independent": lambda m, s, f: distrax.Independent(distrax.Normal(m, s), 1),
    "MultivariateNormalTri": lambda m, s, f: distrax.MultivariateNormalTri(m, f),
    "TFP MultivariateNormalFullCovariance": lambda m, s, f: tfd.MultivariateNormalFullCovariance(m, f @ f.mT),
}
MORE_NORMALS = {
    "MultivariateNormalDiag": lambda m, s, f: distrax.MultivariateNormalDiag(m, s),
    "upper MultivariateNormalTri": lambda m, s, f: distrax.MultivariateNormalTri(m, -f.mT, is_lower=False),
    "MultivariateNormalFullCovariance": lambda m, s, f: distrax.MultivariateNormalFullCovariance(m, f @ f.mT),
    "low rank": lambda m, s, f: distrax.MultivariateNormalDiagPlusLowRank(m, s, f[..., :1]),
    "TFP Independent": lambda m, s, f: tfd.Independent(tfd.Normal(m, s), 1),
    "Independent TFP": lambda m, s, f: distrax.Independent(tfd.Normal(m, s), 1),
    "TFP MultivariateNormalDiag": lambda m, s, f: tfd.MultivariateNormalDiag(m, s),
    "TFP MultivariateNormalTriL": lambda m, s, f: tfd.MultivariateNormalTriL(m, f),
    "diagonal": lambda m, s, f: DiagGaussian(m, jnp.log(s)).as_distrax(),
    "multivariate": lambda m, s, f: MultivariateGaussian(m, jnp.log(s), f[..., 2, :]).as_distrax(),
}


def moments(one):
    """Mean and covariance of a normal distribution of any package."""
    if isinstance(one, (distrax.Independent, tfd.Independent)):
        return np.asarray(one.mean()), np.stack([np.diag(row) for row in np.asarray(one.variance())])
    return np.asarray(one.mean()), np.asarray(one.covariance())


def textbook_divergence(one, other):
    (mean, covariance), (other_mean, other_covariance) = moments(one), moments(other)
    precision, shift = np.linalg.inv(other_covariance), other_mean - mean
    spread = np.trace(precision @ covariance, axis1=-2, axis2=-1) - mean.shape[-1]
    volume = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (spread + np.einsum("bi,bij,bj->b", shift, precision, shift) + volume)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [*NORMALS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_NORMALS)])
def test_divergences_from_and_to_normals_of_other_packages_are_the_textbooks(name: str) -> None:
    generator = np.random.default_rng(0)
    mean, other_mean = map(jnp.asarray, generator.normal(size=(2, 4, 3)))
    std, factor = np.exp(generator.normal(size=(4, 3)) / 2), generator.normal(size=(4, 3, 3))
    factor = jnp.asarray(np.tril(factor, -1) + std[..., None] * np.eye(3))
    theirs = {**NORMALS, **MORE_NORMALS}[name](other_mean, jnp.asarray(std[::-1].copy()), factor)
    for ours in (DiagGaussian(mean, jnp.log(std)), MultivariateGaussian(mean, jnp.log(std), factor[..., 2, :])):
        for one, other in ((ours.as_distrax(), theirs), (theirs, ours.as_distrax())):
            expected = textbook_divergence(one, other)
            for divergence in (tfd.kl_divergence(one, other), one.kl_divergence(other)):
                np.testing.assert_allclose(divergence, expected, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_a_divergence_between_classes_works_under_jit_vmap_and_grad() -> None:
    def divergence(mean):
        one = DiagGaussian(mean, jnp.zeros(2)).as_distrax()
        return one.kl_divergence(distrax.MultivariateNormalTri(jnp.zeros(2), jnp.array([[2.0, 0.0], [1.0, 1.0]])))

    means = jnp.asarray(MEAN, jnp.float64)
    # The covariance of the other is [[4, 2], [2, 2]], its inverse [[0.5, -0.5], [-0.5, 1]].
    expected = means @ jnp.array([[0.5, -0.5], [-0.5, 1.0]])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(divergence)))(means), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.without("jax_debug_key_reuse")
def test_a_divergence_without_a_closed_form_names_both_classes_and_is_estimated() -> None:
    bridged = {kind: make(MEAN).as_distrax() for kind, make in KINDS.items()}
    tri = distrax.MultivariateNormalTri(jnp.zeros(2), jnp.eye(2))
    pairs = (
        (bridged["squashed"], tri, "TanhGaussian and MultivariateNormalTri"),
        (distrax.Independent(distrax.Normal(MEAN, 1.0), 1), bridged["squashed"], "Independent and TanhGaussian"),
        (
            bridged["squashed"],
            TanhGaussian(MEAN, jnp.zeros(2), -3.0, 3.0).as_distrax(),
            "TanhGaussian and TanhGaussian",
        ),
        (distrax.Normal(MEAN, 1.0), bridged["diagonal"], "Normal and DiagGaussian"),
    )
    for one, other, names in pairs:
        with pytest.raises(NotImplementedError, match=f"one Box, got {names}. Estimate it from samples"):
            tfd.kl_divergence(one, other)
    wide, laplace = bridged["diagonal"], distrax.Independent(distrax.Laplace(MEAN, 1.0), 1)
    with jax.numpy_rank_promotion("allow"):  # distrax's Laplace broadcasts.
        assert np.all(np.isfinite(distrax.estimate_kl_best_effort(wide, laplace, KEY, 8)))
    with pytest.raises(ValueError, match=r"expected one event shape, got \(2,\) and \(3,\)"):
        wide.kl_divergence(distrax.MultivariateNormalDiag(jnp.zeros(3), jnp.ones(3)))


def test_the_diagonal_kind_has_the_methods_of_distraxs_diagonal_normal() -> None:
    log_std = jnp.array([-0.5, 0.2])
    ours, theirs = DiagGaussian(MEAN, log_std).as_distrax(), distrax.MultivariateNormalDiag(MEAN, jnp.exp(log_std))

    @jax.jit
    def facts(one):
        methods = ("mean", "median", "mode", "stddev", "variance", "covariance", "entropy")
        found = {name: getattr(one, name)() for name in methods}
        return {**found, "cdf": one.cdf(MEAN + 0.3), "log_cdf": one.log_cdf(MEAN - 9.0), "loc": one.loc}

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-6), facts(ours), facts(theirs))
    np.testing.assert_allclose(ours.scale, np.exp(log_std)[None] * np.ones((4, 1)), rtol=1e-6)
    np.testing.assert_array_equal(ours.entropy(seed=KEY), ours.entropy())
    for index in (0, -1, slice(1, 3), Ellipsis, (Ellipsis, 2), [0, 2], np.array([True, False, True, False])):
        np.testing.assert_array_equal(ours[index].mean(), theirs[index].mean())
    with pytest.raises(IndexError):
        ours[0][0]


def test_the_cumulative_probability_of_a_squashed_or_clipped_action_is_that_of_its_sample() -> None:
    one = TanhGaussian(jnp.zeros((1,)), jnp.zeros((1,)), -2.0, 2.0).as_distrax()
    actions = np.float32([[-2.0], [0.0], [2.0 * np.tanh(0.5)], [2.0], [3.0]])
    np.testing.assert_allclose(one.cdf(actions), [0.0, 0.5, 0.69146246, 1.0, 1.0], rtol=1e-6)
    clipped = CensoredGaussian(jnp.zeros((1,)), jnp.zeros((1,)), -2.0, 2.0).as_distrax()
    np.testing.assert_allclose(clipped.cdf(actions), [0.02275013, 0.5, 0.82232, 1.0, 1.0], rtol=1e-5)
    full = KINDS["multivariate"](MEAN).as_distrax()
    np.testing.assert_allclose(full.scale @ full.scale.mT, full.covariance(), rtol=1e-6)
    with pytest.raises(
        NotImplementedError, match="log_cdf: expected a class that defines it, got MultivariateGaussian"
    ):
        full.cdf(MEAN)


def test_without_distrax_the_bridge_alone_fails() -> None:
    program = """
import sys
sys.modules["distrax"] = None
import jax.numpy as jnp, gaussjax
one = gaussjax.distributions.DiagGaussian(jnp.zeros(2), jnp.zeros(2))
one.log_prob(jnp.zeros(2))
try:
    one.as_distrax()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Run: pip install distrax" in done.stdout

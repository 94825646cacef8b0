"""Our distributions under distrax's interface."""

import subprocess
import sys
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gaussjax.distributions import DiagGaussian, Distribution, MultivariateGaussian, TanhGaussian

with warnings.catch_warnings():
    # distrax loads TensorFlow Probability, which uses what JAX has deprecated.
    warnings.simplefilter("ignore")
    distrax = pytest.importorskip("distrax")

KEY = jax.random.key(0)
MEAN = jnp.linspace(-1.0, 1.0, 8).reshape(4, 2)
KINDS = {
    "diagonal": lambda mean: DiagGaussian(mean, jnp.array([-0.5, 0.2])),
    "squashed": lambda mean: TanhGaussian(mean, jnp.array([-0.5, 0.2]), -2.0, (1.0, 3.0)),
    "multivariate": lambda mean: MultivariateGaussian(mean, jnp.array([-0.5, 0.2]), jnp.array([0.7])),
}


# The bridge is the same code for every kind.
@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.slow if i else ()) for i, kind in enumerate(KINDS)])
def make(request: pytest.FixtureRequest) -> Callable[[jax.Array], Distribution]:
    return KINDS[request.param]


def test_every_question_is_answered_by_ours(make: Callable) -> None:
    ours = make(MEAN)
    bridged, other = ours.as_distrax(), make(MEAN + 0.1)
    assert isinstance(bridged, distrax.Distribution)
    assert (bridged.batch_shape, bridged.event_shape, bridged.dtype) == ((4,), (2,), jnp.float32)
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


def test_it_works_inside_independent(make: Callable) -> None:
    ours = make(MEAN)
    wrapped, other = (distrax.Independent(make(mean).as_distrax(), 1) for mean in (MEAN, MEAN + 0.1))
    assert (wrapped.batch_shape, wrapped.event_shape) == ((), (4, 2))
    samples, log_prob = wrapped.sample_and_log_prob(seed=KEY)
    np.testing.assert_allclose(log_prob, wrapped.log_prob(samples), rtol=1e-3)
    np.testing.assert_allclose(wrapped.entropy(), ours.entropy().sum(), rtol=1e-6)
    np.testing.assert_allclose(wrapped.kl_divergence(other), ours.kl_divergence(make(MEAN + 0.1)).sum(), rtol=1e-6)


def test_it_works_inside_transformed(make: Callable) -> None:
    ours = make(MEAN)
    doubled = distrax.Transformed(ours.as_distrax(), distrax.Block(distrax.ScalarAffine(0.0, 2.0), 1))
    samples, log_prob = jax.jit(lambda: doubled.sample_and_log_prob(seed=KEY))()
    assert (doubled.batch_shape, doubled.event_shape) == ((4,), (2,))
    np.testing.assert_allclose(log_prob, ours.log_prob(samples / 2.0) - 2 * np.log(2.0), atol=1e-4)
    np.testing.assert_allclose(doubled.log_prob(samples), log_prob, atol=1e-4)


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

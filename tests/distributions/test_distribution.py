"""The base class: what constructors broadcast and refuse, reductions, and a distribution of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from jax.test_util import check_grads

import gaussjax.torch  # noqa: F401  With it the formulas run on tensors.
from gaussjax.distributions import (
    DiagGaussian,
    Distribution,
    MultivariateGaussian,
    TanhGaussian,
    align,
    reduce,
    register,
)
from gaussjax.distributions.distribution import row_sums
from gaussjax.distributions.multivariate import num_pairs

MEANS = jnp.zeros((3, 3, 2))


@register
class Laplace(Distribution):
    """Independent double exponentials."""

    loc: jax.Array
    log_scale: jax.Array

    def from_noise(self, noise):
        loc, log_scale, noise = align(self.loc, self.log_scale, noise)
        distance = -jax.scipy.special.log_ndtr(-jnp.abs(noise)) - jnp.log(2.0)
        return loc + jnp.exp(log_scale) * jnp.sign(noise) * distance

    def log_prob(self, actions, reduction="sum"):
        loc, log_scale, actions = align(self.loc, self.log_scale, actions)
        return reduce(-jnp.abs(actions - loc) * jnp.exp(-log_scale) - log_scale - jnp.log(2.0), reduction)

    def entropy(self, reduction="sum"):
        return reduce(self.log_scale + 1.0 + jnp.log(2.0), reduction)

    def mean(self):
        return self.loc


KINDS = {
    "diagonal": DiagGaussian,
    "squashed": lambda loc, log_std: TanhGaussian(loc, log_std, -1.0, 1.0),
    "multivariate": lambda loc, log_std: MultivariateGaussian(loc, log_std, jnp.zeros(num_pairs(loc.shape[-1]))),
    "own": Laplace,
}


@pytest.fixture(params=KINDS)
def make(request):
    return KINDS[request.param]


def test_every_kind_made_inside_vmap_equals_the_one_made_outside(make):
    log_std = 0.1 * jnp.arange(6.0).reshape(3, 2)
    inside, outside = jax.vmap(make)(MEANS, log_std), make(MEANS, log_std[:, None])
    assert inside.batch_shape == outside.batch_shape == (3, 3)
    jax.tree.map(np.testing.assert_array_equal, inside, outside)
    actions = jnp.full((3, 3, 2), 0.3)
    np.testing.assert_array_equal(inside.log_prob(actions), outside.log_prob(actions))


@pytest.mark.without("jax_enable_x64")
def test_leaves_get_the_common_batch_shape_and_the_dimensions_of_loc(make):
    for shape in ((), (1,), (2,), (3, 1, 1), (3, 1, 2), (4, 3, 3, 1)):
        one = jax.eval_shape(make, MEANS.astype(jnp.bfloat16), np.zeros(shape, np.float16))
        batch = (4, 3, 3) if len(shape) == 4 else (3, 3)
        assert (one.batch_shape, one.event_shape) == (batch, (2,))
        assert all(leaf.shape[:-1] == batch and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(one))


@pytest.mark.parametrize(
    ("loc", "log_std", "says"),
    [
        ((3, 5), (3, 4), r"expected a last axis of 5 for 5 dimensions of loc, got shape \(3, 4\). Reshape it"),
        ((3, 1), (3, 5), r"expected a last axis of 1 for 1 dimensions of loc, got shape \(3, 5\)"),
        ((3, 5), (4, 5), r"one batch shape, got {'loc': \(3, 5\), 'log_\w+': \(4, 5\).*}\. Give them"),
        ((), (), r"loc: expected shape \(..., act\), got \(\). Give a single action the shape \(1,\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [DiagGaussian, Laplace, KINDS["squashed"]], ids=["diagonal", "own", "squashed"])
def test_what_does_not_fit_is_refused(make, loc, log_std, says):
    with pytest.raises(ValueError, match=says):
        make(jnp.zeros(loc), jnp.zeros(log_std))


def test_placeholders_stand_for_leaves(make):
    one = make(MEANS, jnp.zeros(2))
    named = jax.tree.map(lambda _: "x", one)
    assert type(named) is type(one)
    assert set(jax.tree.leaves(named)) == {"x"}
    assert jax.tree.structure(named) == jax.tree.structure(one)
    assert jax.eval_shape(make, MEANS, jnp.zeros(2)).loc.shape == (3, 3, 2)
    with pytest.raises(AttributeError):
        one.loc = MEANS


def test_a_distribution_of_ones_own_samples_and_scores_as_scipys():
    one = Laplace(jnp.array([0.5, -1.0]), log_scale=jnp.array([0.2, -0.3]))
    actions, log_prob = jax.jit(Laplace.sample_and_log_prob, static_argnums=2)(one, jax.random.key(0), (20_000,))
    assert (actions.shape, log_prob.shape) == ((20_000, 2), (20_000,))
    theirs = scipy.stats.laplace(np.asarray(one.loc), np.exp(np.asarray(one.log_scale)))
    np.testing.assert_allclose(log_prob, theirs.logpdf(actions).sum(-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.entropy(), theirs.entropy().sum(), rtol=1e-6)
    for i, scale in enumerate(np.exp([0.2, -0.3])):
        assert scipy.stats.kstest(actions[:, i], "laplace", (float(one.loc[i]), scale)).pvalue > 1e-3


@pytest.mark.parametrize("method", ["median", "mode", "stddev", "kl_divergence"])
def test_a_method_that_is_not_defined_says_so(method):
    one = Laplace(jnp.zeros(2), jnp.zeros(2))
    arguments = (one,) if method == "kl_divergence" else ()
    with pytest.raises(NotImplementedError, match=rf"{method}: .* got Laplace. Define Laplace\.{method}"):
        getattr(one, method)(*arguments)


def test_an_unknown_reduction_is_refused():
    distribution = DiagGaussian(jnp.zeros((3, 2)), jnp.zeros(2))
    for call in (distribution.entropy, lambda reduction: distribution.log_prob(jnp.zeros((3, 2)), reduction)):
        with pytest.raises(ValueError, match="reduction: expected 'sum', 'mean', 'prod' or 'none', got 'max'"):
            call("max")


@pytest.mark.parametrize("width", [0, 1, 2, 7, 32, 33])
def test_rows_are_added_up_as_by_sum(width):
    rows = np.random.default_rng(0).normal(size=(3, 4, width)).astype(np.float32)
    expected = rows.sum(-1, dtype=np.float64)
    np.testing.assert_allclose(row_sums(torch.tensor(rows)), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(row_sums(jnp.asarray(rows)), expected, rtol=1e-6, atol=1e-6)
    check_grads(row_sums, (jnp.asarray(rows),), order=2, modes=("fwd", "rev"), rtol=2e-2)


def test_the_gradient_of_added_rows_is_one_broadcast():
    # An array of zeros for each column would take as long as what the additions save.
    gradient = jax.make_jaxpr(jax.grad(lambda x: row_sums(x).sum()))(jnp.ones((3, 8)))
    assert "pad" not in str(gradient)

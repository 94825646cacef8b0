"""Conversion of gaussjax distributions to distrax distributions; the first conversion imports distrax."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core.arrays import like_actions
from gaussjax.distributions.diagonal import DiagGaussian
from gaussjax.distributions.distribution import Distribution
from gaussjax.distributions.multivariate import MultivariateGaussian, num_pairs
from gaussjax.distributions.squashed import TanhGaussian
from gaussjax.distributions.truncated import TruncatedGaussian


@functools.cache
def distrax_class() -> type:
    """Subclass of `distrax.Distribution` that calls a gaussjax distribution for every result."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import distrax
            from tensorflow_probability.substrates.jax import distributions as tfd
    except ImportError as error:
        raise ImportError(
            f"as_distrax: expected distrax to be installed, got {error}. Run: pip install distrax "
            f"(it needs a tfp-nightly that fits this jax; constraints.txt names one)."
        ) from error

    class GaussjaxDistribution(distrax.Distribution):
        """A distrax distribution that calls a gaussjax distribution for every result."""

        def __init__(self, distribution: Distribution):
            super().__init__()
            self.distribution = distribution

        @property
        def name(self) -> str:
            return type(self.distribution).__name__

        @property
        def batch_shape(self) -> tuple[int, ...]:
            return self.distribution.batch_shape

        @property
        def event_shape(self) -> tuple[int]:
            return self.distribution.event_shape

        @property
        def loc(self) -> Any:
            return self.distribution.loc

        @property
        def scale(self) -> Any:
            # With `loc + scale * noise`, or `loc + scale @ noise`, the raw actions of every kind.
            if isinstance(self.distribution, MultivariateGaussian):
                return self.distribution.scale_tril()
            return jnp.exp(self._defined("log_std"))

        def _defined(self, name: str) -> Any:
            if not hasattr(self.distribution, name):
                raise NotImplementedError(f"{name}: expected a class that defines it, got {self.name}.")
            return getattr(self.distribution, name)

        def _sample_n(self, key: Any, n: int) -> Any:
            return self.distribution.sample(key, (n,))

        def _sample_n_and_log_prob(self, key: Any, n: int) -> Any:
            return self.distribution.sample_and_log_prob(key, (n,))

        def log_prob(self, value: Any) -> Any:
            return self.distribution.log_prob(value)

        def log_cdf(self, value: Any) -> Any:
            if not isinstance(self.distribution, TanhGaussian):
                return jnp.sum(self._defined("log_cdf")(value), -1)
            value = jnp.asarray(value)
            low, high = like_actions(np.asarray(self.distribution.low), np.asarray(self.distribution.high), value)
            inner = self.distribution.base.log_cdf(self.distribution.unsquash(value))
            return jnp.sum(jnp.where(value >= high, 0.0, jnp.where(value <= low, -jnp.inf, inner)), -1)

        def entropy(self, seed: Any = None) -> Any:
            # Some agents pass a key for an estimate from samples, which no kind needs.
            return self.distribution.entropy()

        def kl_divergence(self, other_dist: Any, **_: Any) -> Any:
            # `other_dist` may also be a gaussjax distribution that was not converted to distrax.
            return _divergence(self, other_dist)

        def mean(self) -> Any:
            return self.distribution.mean()

        def median(self) -> Any:
            return self.distribution.median()

        def mode(self) -> Any:
            return self.distribution.mode()

        def stddev(self) -> Any:
            return self.distribution.stddev()

        def variance(self) -> Any:
            return jnp.square(self.distribution.stddev())

        def covariance(self) -> Any:
            if isinstance(self.distribution, (DiagGaussian, TanhGaussian, TruncatedGaussian)):
                return jnp.vectorize(jnp.diag, signature="(n)->(n,n)")(self.variance())
            return self._defined("covariance")()

        def __getitem__(self, index: Any) -> Any:
            # The index applies to the batch axes only, because an ellipsis in it must not reach the action axis.
            count = math.prod(self.batch_shape)
            rows = np.arange(count).reshape(self.batch_shape)[index]
            return type(self)(jax.tree.map(lambda leaf: leaf.reshape(count, leaf.shape[-1])[rows], self.distribution))

    def _gaussjax(distribution: Any) -> Any:
        """Returns a normal distribution of distrax or TFP as one of gaussjax, any other distribution unchanged."""
        found: Any = distribution  # Typed as Any, because type checkers narrow `distribution` to classes of TFP.
        if isinstance(distribution, GaussjaxDistribution):
            return found.distribution
        if isinstance(distribution, (distrax.Independent, tfd.Independent)):
            inner: Any = found.distribution
            if isinstance(found.distribution, (distrax.Normal, tfd.Normal)) and len(found.event_shape) == 1:
                shape = (*found.batch_shape, *found.event_shape)
                return DiagGaussian(*(jnp.broadcast_to(x, shape) for x in (inner.loc, jnp.log(inner.scale))))
        if isinstance(distribution, distrax.MultivariateNormalDiag):
            return DiagGaussian(found.mean(), jnp.log(jnp.abs(found.scale_diag)))
        if isinstance(distribution, tfd.MultivariateNormalDiag):
            return DiagGaussian(found.mean(), jnp.log(jnp.abs(found.scale.diag_part())))
        if isinstance(distribution, distrax.MultivariateNormalFromBijector):
            return factorised(found.mean(), found.scale.matrix)
        if isinstance(distribution, tfd.MultivariateNormalLinearOperator):
            return factorised(found.mean(), found.scale.to_dense())
        return distribution

    def _divergence(one: Any, other: Any, *_: Any, **__: Any) -> Any:
        names = [getattr(each, "name", type(each).__name__) for each in (one, other)]
        one, other = map(_gaussjax, (one, other))
        same = type(one) is type(other) and isinstance(one, Distribution)
        normal = all(type(each) in (DiagGaussian, MultivariateGaussian) for each in (one, other))
        if isinstance(one, TanhGaussian) and same:
            same = (one.low, one.high) == (other.low, other.high)
        if not (same or normal):
            raise NotImplementedError(
                f"kl_divergence: expected two normal distributions over vectors, or two distributions of one class and "
                f"one Box, got {names[0]} and {names[1]}. Estimate it from samples: distrax.estimate_kl_best_effort."
            )
        if one.event_shape != other.event_shape:
            raise ValueError(f"kl_divergence: expected one event shape, got {one.event_shape} and {other.event_shape}.")
        return one.kl_divergence(other) if same else _full(one).kl_divergence(_full(other))

    for theirs in (GaussjaxDistribution, distrax.Distribution, tfd.Distribution):
        tfd.RegisterKL(GaussjaxDistribution, theirs)(_divergence)
        if theirs is not GaussjaxDistribution:
            tfd.RegisterKL(theirs, GaussjaxDistribution)(_divergence)
    return GaussjaxDistribution


def _full(one: Any) -> MultivariateGaussian:
    if isinstance(one, MultivariateGaussian):
        return one
    return MultivariateGaussian(one.loc, one.log_std, jnp.zeros(num_pairs(*one.event_shape), one.loc.dtype))


def factorised(mean: Any, scale: Any) -> MultivariateGaussian:
    """Makes the normal distribution with the covariance `scale @ scale.T`, for square matrices `(…, act, act)`."""
    factor = jnp.linalg.qr(scale.mT, mode="r").mT
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    # The rows of the triangular factor of actions are a row of I + N times a standard deviation.
    unit = factor * (jnp.sign(diagonal)[..., None, :] / jnp.abs(diagonal)[..., :, None])
    return MultivariateGaussian(mean, jnp.log(jnp.abs(diagonal)), unit[..., *np.tril_indices(mean.shape[-1], -1)])

"""Conversion of gaussjax distributions to distrax distributions; the first conversion imports distrax."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.distributions.distribution import Distribution


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

        def _sample_n(self, key: Any, n: int) -> Any:
            return self.distribution.sample(key, (n,))

        def _sample_n_and_log_prob(self, key: Any, n: int) -> Any:
            return self.distribution.sample_and_log_prob(key, (n,))

        def log_prob(self, value: Any) -> Any:
            return self.distribution.log_prob(value)

        def entropy(self) -> Any:
            return self.distribution.entropy()

        def kl_divergence(self, other_dist: Any, **_: Any) -> Any:
            # `other_dist` may also be a gaussjax distribution that was not converted to distrax.
            return self.distribution.kl_divergence(getattr(other_dist, "distribution", other_dist))

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

        def __getitem__(self, index: Any) -> Any:
            # The index applies to the batch axes only, because an ellipsis in it must not reach the action axis.
            chosen = tuple(axis[index] for axis in np.indices(self.batch_shape))
            return type(self)(jax.tree.map(lambda leaf: leaf[chosen], self.distribution))

    @tfd.RegisterKL(GaussjaxDistribution, GaussjaxDistribution)
    def _kl(one: Any, other: Any, *_: Any, **__: Any) -> Any:
        return one.kl_divergence(other)

    return GaussjaxDistribution

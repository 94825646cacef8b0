"""Distributions as distrax distributions; distrax is imported at the first conversion."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.distributions.distribution import Distribution


def as_distrax(distribution: Distribution) -> Any:
    """A `distrax.Distribution` that calls the given distribution for every result.

    Raises:
        ImportError: distrax cannot be imported.
    """
    return _bridge()(distribution)


@functools.cache
def _bridge() -> type:
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
        """A gaussjax distribution under distrax's interface."""

        def __init__(self, distribution: Distribution):
            super().__init__()
            self._distribution = distribution

        @property
        def distribution(self) -> Distribution:
            """Ours."""
            return self._distribution

        @property
        def name(self) -> str:
            """Name of our class."""
            return type(self._distribution).__name__

        @property
        def batch_shape(self) -> tuple[int, ...]:
            """Leading dimensions."""
            return self._distribution.batch_shape

        @property
        def event_shape(self) -> tuple[int]:
            """Shape of one action."""
            return self._distribution.event_shape

        def _sample_n(self, key: Any, n: int) -> Any:
            return self._distribution.sample(key, (n,))

        def _sample_n_and_log_prob(self, key: Any, n: int) -> Any:
            return self._distribution.sample_and_log_prob(key, (n,))

        def log_prob(self, value: Any) -> Any:
            """Joint log-density of actions, `(…)`."""
            return self._distribution.log_prob(value)

        def entropy(self) -> Any:
            """Differential entropy, `(…)`."""
            return self._distribution.entropy()

        def kl_divergence(self, other_dist: Any, **_: Any) -> Any:
            """KL to another of the same class, bridged or not."""
            return self._distribution.kl_divergence(getattr(other_dist, "distribution", other_dist))

        def mean(self) -> Any:
            """Expected action."""
            return self._distribution.mean()

        def median(self) -> Any:
            """Median of each dimension."""
            return self._distribution.median()

        def mode(self) -> Any:
            """Most likely action."""
            return self._distribution.mode()

        def stddev(self) -> Any:
            """Standard deviation of each dimension."""
            return self._distribution.stddev()

        def variance(self) -> Any:
            """Variance of each dimension."""
            return jnp.square(self._distribution.stddev())

        def __getitem__(self, index: Any) -> Any:
            # Through the batch axes alone, so that an ellipsis cannot reach the action axis.
            chosen = tuple(axis[index] for axis in np.indices(self.batch_shape))
            return type(self)(jax.tree.map(lambda leaf: leaf[chosen], self._distribution))

    @tfd.RegisterKL(GaussjaxDistribution, GaussjaxDistribution)
    def _kl(one: Any, other: Any, *_: Any, **__: Any) -> Any:
        return one.kl_divergence(other)

    return GaussjaxDistribution

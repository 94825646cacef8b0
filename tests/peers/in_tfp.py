"""Our distributions under the names and constructors of TensorFlow Probability on JAX.

An adapter keeps the peer's constructor, checks of parameters, shapes and slices; ours compute every result.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from tensorflow_probability.substrates.jax import bijectors as tfb
from tensorflow_probability.substrates.jax import distributions as tfd

from gaussjax.distributions import DiagGaussian, TanhGaussian, TruncatedGaussian
from gaussjax.distributions.bridge import factorised
from gaussjax.distributions.special import tanh_log_det


class Ours:
    """Methods of a TFP distribution that call one of our distributions, whose actions are the flattened events."""

    def _ours(self) -> Any:
        raise NotImplementedError

    def _event(self, actions: jax.Array) -> jax.Array:
        return actions.reshape(*actions.shape[:-1], *self.event_shape)

    def _actions(self, event: jax.Array) -> jax.Array:
        axes = len(self.event_shape)
        event = jnp.broadcast_to(event, (*event.shape[: event.ndim - axes], *self.event_shape))
        return event.reshape(*event.shape[: event.ndim - axes], math.prod(self.event_shape))

    def _sample_n(self, n: Any, seed: Any = None) -> jax.Array:
        return self._event(self._ours().sample(seed, (int(n),)))

    def _sample_and_log_prob(self, sample_shape: Any, seed: Any) -> tuple[jax.Array, jax.Array]:
        actions, log_prob = self._ours().sample_and_log_prob(seed, tuple(map(int, jnp.atleast_1d(sample_shape))))
        return self._event(actions), log_prob

    def _log_prob(self, event: jax.Array) -> jax.Array:
        return self._ours().log_prob(self._actions(event))

    def _prob(self, event: jax.Array) -> jax.Array:
        return jnp.exp(self._log_prob(event))

    def _log_cdf(self, event: jax.Array) -> jax.Array:
        return self._ours().as_distrax().log_cdf(self._actions(event))

    def _cdf(self, event: jax.Array) -> jax.Array:
        return jnp.exp(self._log_cdf(event))

    def _log_survival_function(self, event: jax.Array) -> jax.Array:
        return self._ours().log_survival(self._actions(event))[..., 0]

    def _survival_function(self, event: jax.Array) -> jax.Array:
        return jnp.exp(self._log_survival_function(event))

    def _quantile(self, value: jax.Array) -> jax.Array:
        raise NotImplementedError("quantile")

    def _entropy(self) -> jax.Array:
        return self._ours().entropy()

    def _mean(self) -> jax.Array:
        return self._event(self._ours().mean())

    def _mode(self) -> jax.Array:
        return self._event(self._ours().mode())

    def _stddev(self) -> jax.Array:
        return self._event(self._ours().stddev())

    def _variance(self) -> jax.Array:
        return self._event(self._ours().as_distrax().variance())

    def _covariance(self) -> jax.Array:
        return self._ours().as_distrax().covariance()


def _column(*numbers: Any) -> list[jax.Array]:
    return [jnp.expand_dims(number, -1) for number in jnp.broadcast_arrays(*numbers)]


class Normal(Ours, tfd.Normal):
    """A normal distribution of numbers."""

    def _ours(self) -> DiagGaussian:
        return DiagGaussian(*_column(self.loc, jnp.log(self.scale)))


class TruncatedNormal(Ours, tfd.TruncatedNormal):
    """A truncated normal distribution of numbers; each number of the batch is an action of ours with its own bounds."""

    def _ours(self) -> TruncatedGaussian:
        fields = jnp.broadcast_arrays(self.loc, jnp.log(self.scale), self.low, self.high)
        return TruncatedGaussian(*(field.reshape(-1) for field in fields))

    def _each(self, values: jax.Array) -> jax.Array:
        return values.reshape(*values.shape[:-1], *self.batch_shape)

    def _of(self, event: jax.Array) -> jax.Array:
        shape = jnp.broadcast_shapes(event.shape, self.batch_shape)
        outer = shape[: len(shape) - len(self.batch_shape)]
        return jnp.broadcast_to(event, shape).reshape(*outer, math.prod(self.batch_shape))

    def _sample_n(self, n: Any, seed: Any = None) -> jax.Array:
        return self._each(self._ours().sample(seed, (int(n),)))

    def _log_prob(self, event: jax.Array) -> jax.Array:
        return self._each(self._ours().log_prob(self._of(event), "none"))

    def _log_cdf(self, event: jax.Array) -> jax.Array:
        return self._each(self._ours().log_cdf(self._of(event)))

    def _log_survival_function(self, event: jax.Array) -> jax.Array:
        return self._each(self._ours().log_survival(self._of(event)))

    def _entropy(self) -> jax.Array:
        return self._each(self._ours().entropy("none"))

    def _mean(self) -> jax.Array:
        return self._each(self._ours().mean())

    def _mode(self) -> jax.Array:
        return self._each(self._ours().mode())

    def _stddev(self) -> jax.Array:
        return self._each(self._ours().stddev())

    def _variance(self) -> jax.Array:
        return jnp.square(self._stddev())


class LogitNormal(Ours, tfd.LogitNormal):
    """A normal distribution squashed into (0, 1), where sigmoid(u) is half of 1 + tanh(u / 2)."""

    def _ours(self) -> TanhGaussian:
        loc, log_std = _column(0.5 * self.loc, jnp.log(self.scale) - math.log(2.0))
        return TanhGaussian(loc, log_std, low=0.0, high=1.0)

    def _call_sample_n(self, sample_shape: Any, seed: Any) -> jax.Array:
        return tfd.Distribution._call_sample_n(self, sample_shape, seed)

    def mean_approx(self) -> jax.Array:
        return self._mean()

    def variance_approx(self) -> jax.Array:
        return self._variance()


class Full(Ours):
    """A normal distribution with a factor of its covariance."""

    def _ours(self) -> Any:
        factor = jnp.asarray(self.scale.to_dense())
        loc = jnp.zeros(factor.shape[-1:], factor.dtype) if self.loc is None else self.loc
        return factorised(jnp.broadcast_to(loc, (*loc.shape[:-1], factor.shape[-1])), factor)


class MultivariateNormalLinearOperator(Full, tfd.MultivariateNormalLinearOperator):
    """A normal distribution with a linear operator."""


class MultivariateNormalTriL(Full, tfd.MultivariateNormalTriL):
    """A normal distribution with a triangular factor of its covariance."""


class MultivariateNormalFullCovariance(Full, tfd.MultivariateNormalFullCovariance):
    """A normal distribution with a covariance."""


class MultivariateNormalDiag(Ours, tfd.MultivariateNormalDiag):
    """A normal distribution with independent dimensions."""

    def _ours(self) -> DiagGaussian:
        diagonal = self.scale.diag_part()
        loc = jnp.zeros_like(diagonal) if self.loc is None else self.loc
        return DiagGaussian(*jnp.broadcast_arrays(loc, jnp.log(jnp.abs(diagonal))))


class IndependentNormal(Ours, tfd.Independent):
    """Independent normal distributions whose trailing batch axes belong to the event."""

    def _ours(self) -> DiagGaussian:
        fields = self.distribution.mean(), jnp.log(self.distribution.stddev())
        return DiagGaussian(*(self._actions(field) for field in fields))


def Independent(distribution: Any, *arguments: Any, **options: Any) -> Any:
    """Ours for normal distributions, and TFP's own class for others."""
    normal = isinstance(distribution, (tfd.Normal, tfd.MultivariateNormalDiag))
    return (IndependentNormal if normal else tfd.Independent)(distribution, *arguments, **options)


class Tanh(tfb.Tanh):
    """The map of our squashed distribution onto (-1, 1)."""

    def _squashed(self, x: jax.Array) -> TanhGaussian:
        return TanhGaussian(jnp.zeros(1, x.dtype), jnp.zeros(1, x.dtype), low=-1.0, high=1.0)

    def _forward(self, x: jax.Array) -> jax.Array:
        return self._squashed(x).squash(x[..., None])[..., 0]

    def _inverse(self, y: jax.Array) -> jax.Array:
        return self._squashed(y).unsquash(y[..., None])[..., 0]

    def _forward_log_det_jacobian(self, x: jax.Array) -> jax.Array:
        return tanh_log_det(x)


def _divergence(one: Any, other: Any, name: Any = None) -> jax.Array:
    return one._ours().as_distrax().kl_divergence(other._ours().as_distrax())


for _names in ((Normal,), (LogitNormal,), (IndependentNormal,)):
    tfd.RegisterKL(*_names * 2)(_divergence)
_FULL = (
    MultivariateNormalDiag,
    MultivariateNormalFullCovariance,
    MultivariateNormalLinearOperator,
    MultivariateNormalTriL,
)
for _one in _FULL:
    for _other in _FULL:
        tfd.RegisterKL(_one, _other)(_divergence)

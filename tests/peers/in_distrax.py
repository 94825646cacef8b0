"""Our distributions under the names and constructors of distrax."""

from __future__ import annotations

import copy
import math
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from tensorflow_probability.substrates.jax import bijectors as tfb
from tensorflow_probability.substrates.jax import distributions as tfd

from gaussjax.distributions import CensoredGaussian, DiagGaussian, TanhGaussian
from gaussjax.distributions.bridge import distrax_class, factorised
from gaussjax.distributions.special import tanh_log_det


class Shaped(distrax.Distribution):
    """One of our distributions over vectors, as a distribution over numbers or over arrays of several axes."""

    def __init__(self, ours: Any, event_shape: tuple[int, ...]):
        super().__init__()
        self.bridged, self._event_shape = ours.as_distrax(), tuple(event_shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._event_shape

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.bridged.batch_shape

    @property
    def loc(self) -> jax.Array:
        return self._event(self.bridged.loc)

    @property
    def scale(self) -> jax.Array:
        return self._event(self.bridged.scale)

    @property
    def log_scale(self) -> jax.Array:
        return self._event(self.bridged.distribution.log_std)

    def _event(self, actions: jax.Array) -> jax.Array:
        return actions.reshape(*actions.shape[:-1], *self.event_shape)

    def _actions(self, event: Any) -> jax.Array:
        event = jnp.asarray(event)
        return event.reshape(*event.shape[: event.ndim - len(self.event_shape)], math.prod(self.event_shape))

    def _sample_n(self, key: jax.Array, n: int) -> jax.Array:
        return self._event(self.bridged._sample_n(key, n))

    def _sample_n_and_log_prob(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        actions, log_prob = self.bridged._sample_n_and_log_prob(key, n)
        return self._event(actions), log_prob

    def log_prob(self, value: Any) -> jax.Array:
        return self.bridged.log_prob(self._actions(value))

    def log_cdf(self, value: Any) -> jax.Array:
        return self.bridged.log_cdf(self._actions(value))

    def log_survival_function(self, value: Any) -> jax.Array:
        return self.bridged.distribution.log_survival(self._actions(value))[..., 0]

    def survival_function(self, value: Any) -> jax.Array:
        return jnp.exp(self.log_survival_function(value))

    def entropy(self) -> jax.Array:
        return self.bridged.entropy()

    def mean(self) -> jax.Array:
        return self._event(self.bridged.mean())

    def median(self) -> jax.Array:
        return self._event(self.bridged.median())

    def mode(self) -> jax.Array:
        return self._event(self.bridged.mode())

    def stddev(self) -> jax.Array:
        return self._event(self.bridged.stddev())

    def variance(self) -> jax.Array:
        return self._event(self.bridged.variance())

    def kl_divergence(self, other_dist: Any, **_: Any) -> jax.Array:
        return _divergence(self, other_dist)

    def __getitem__(self, index: Any) -> Any:
        part = copy.copy(self)
        part.bridged = self.bridged[index]
        return part


def _divergence(one: Any, other: Any, **_: Any) -> jax.Array:
    return _flat(one).kl_divergence(_flat(other))


def _flat(distribution: Any) -> Any:
    """The distribution over vectors that a distribution of numbers or of arrays with independent entries is."""
    if isinstance(distribution, Shaped):
        return distribution.bridged
    if _is_normal(distribution):
        shape = (*distribution.batch_shape, math.prod(distribution.event_shape))
        fields = (distribution.mean(), jnp.log(distribution.stddev()))
        return DiagGaussian(*(field.reshape(shape) for field in fields)).as_distrax()
    return distribution


def _is_normal(distribution: Any) -> bool:
    if isinstance(distribution, (distrax.Independent, tfd.Independent)):
        return _is_normal(distribution.distribution)
    ours = getattr(getattr(distribution, "bridged", distribution), "distribution", None)
    return isinstance(ours, DiagGaussian) or isinstance(
        distribution, (tfd.Normal, tfd.MultivariateNormalDiag, distrax.Normal, distrax.MultivariateNormalDiag)
    )


for _theirs in (Shaped, distrax.Distribution, tfd.Distribution):
    tfd.RegisterKL(Shaped, _theirs)(_divergence)
    if _theirs is not Shaped:
        tfd.RegisterKL(_theirs, Shaped)(_divergence)


def _column(*numbers: Any) -> list[jax.Array]:
    return [jnp.expand_dims(number, -1) for number in jnp.broadcast_arrays(*map(jnp.asarray, numbers))]


class LogStddevNormal(Shaped):
    """A normal distribution of numbers, given the logarithm of its standard deviation."""

    def __init__(self, loc: Any, log_scale: Any):
        super().__init__(DiagGaussian(*_column(loc, log_scale)), ())


class Normal(Shaped):
    """A normal distribution of numbers."""

    equiv_tfp_cls = tfd.Normal

    def __init__(self, loc: Any, scale: Any):
        super().__init__(DiagGaussian(*_column(loc, jnp.log(jnp.asarray(scale)))), ())


class ClippedNormal(Shaped):
    """A normal distribution of numbers that are clipped."""

    def __init__(self, loc: Any, scale: Any, minimum: Any, maximum: Any):
        super().__init__(CensoredGaussian(*_column(loc, jnp.log(jnp.asarray(scale))), low=minimum, high=maximum), ())


class Independent(Shaped):
    """Independent normal distributions whose trailing batch axes belong to the event."""

    equiv_tfp_cls = tfd.Independent

    def __new__(cls, distribution: Any = None, reinterpreted_batch_ndims: int | None = None) -> Any:
        # Copies are made without arguments.
        if distribution is None or _is_normal(distribution):
            return super().__new__(cls)
        return distrax.Independent(distribution, reinterpreted_batch_ndims)

    def __init__(self, distribution: Any, reinterpreted_batch_ndims: int | None = None):
        batch = tuple(distribution.batch_shape)
        moved = max(0, len(batch) - 1) if reinterpreted_batch_ndims is None else reinterpreted_batch_ndims
        kept = batch[: len(batch) - moved]
        event = (*batch[len(batch) - moved :], *distribution.event_shape)
        shape = (*kept, math.prod(event))
        fields = (distribution.mean(), jnp.log(distribution.stddev()))
        super().__init__(DiagGaussian(*(field.reshape(shape) for field in fields)), event)

    @property
    def distribution(self) -> Normal:
        return Normal(self.loc, self.scale)


def Transformed(distribution: Any, bijector: Any) -> Any:
    """A normal distribution of numbers squashed by tanh, or distrax's own class for another bijector."""
    if isinstance(bijector, (tfb.Tanh, distrax.Tanh)) and distribution.event_shape == () and _is_normal(distribution):
        fields = _column(distribution.mean(), jnp.log(distribution.stddev()))
        return Shaped(TanhGaussian(*fields, low=-1.0, high=1.0), ())
    return distrax.Transformed(distribution, bijector)


class Tanh(distrax.Bijector):
    """The map of our squashed distribution onto (-1, 1)."""

    def __init__(self) -> None:
        super().__init__(event_ndims_in=0)
        self._squashed = TanhGaussian(jnp.zeros(1), jnp.zeros(1), low=-1.0, high=1.0)

    def forward_and_log_det(self, x: Any) -> tuple[jax.Array, jax.Array]:
        u = jnp.asarray(x, jnp.result_type(x, jnp.float32))
        return self._squashed.squash(u[..., None])[..., 0], tanh_log_det(u)

    def inverse_and_log_det(self, y: Any) -> tuple[jax.Array, jax.Array]:
        u = self._squashed.unsquash(jnp.asarray(y)[..., None])[..., 0]
        return u, -tanh_log_det(u)

    def same_as(self, other: Any) -> bool:
        return type(other) is Tanh


class MultivariateNormalDiag:
    """A normal distribution with independent dimensions."""

    equiv_tfp_cls = tfd.MultivariateNormalDiag

    def __new__(cls, loc: Any = None, scale_diag: Any = None) -> Any:
        loc = jnp.zeros(jnp.shape(scale_diag)[-1:]) if loc is None else loc
        return DiagGaussian(loc, 0.0 if scale_diag is None else jnp.log(jnp.abs(scale_diag))).as_distrax()


class Full(distrax_class()):
    """A normal distribution with a factor of its covariance."""

    def __init__(self, loc: Any, scale: Any):
        loc = jnp.zeros(jnp.shape(scale)[-1:]) if loc is None else jnp.asarray(loc)
        super().__init__(factorised(loc, jnp.eye(loc.shape[-1]) if scale is None else scale))

    @property
    def scale_tri(self) -> jax.Array:
        return self.scale

    @property
    def covariance_matrix(self) -> jax.Array:
        return self.covariance()

    def __getitem__(self, index: Any) -> Any:
        part = copy.copy(self)
        part.distribution = self.distribution.as_distrax()[index].distribution
        return part


class MultivariateNormalTri(Full):
    """A normal distribution with a triangular factor of its covariance."""

    equiv_tfp_cls = tfd.MultivariateNormalTriL

    def __init__(self, loc: Any = None, scale_tri: Any = None, is_lower: bool = True):
        triangle = jnp.tril if is_lower else jnp.triu
        super().__init__(loc, None if scale_tri is None else triangle(scale_tri))
        self.is_lower = is_lower


class MultivariateNormalFullCovariance(Full):
    """A normal distribution with a covariance."""

    equiv_tfp_cls = tfd.MultivariateNormalFullCovariance

    def __init__(self, loc: Any = None, covariance_matrix: Any = None):
        super().__init__(loc, None if covariance_matrix is None else jnp.linalg.cholesky(covariance_matrix))


class MultivariateNormalFromBijector(Full):
    """A normal distribution with the matrix of a linear bijector as a factor of its covariance."""

    def __init__(self, loc: Any, scale: Any):
        super().__init__(loc, scale.matrix)

"""Our distributions in PyTorch under the names and constructors of torch.distributions.

An adapter keeps the peer's constructor, checks of arguments, shapes and expansion; ours compute every result.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import distributions as peer
from torch.distributions import transforms as peer_transforms
from torch.distributions.utils import lazy_property

import gaussjax.torch as gt
from gaussjax.distributions import DiagGaussian, MultivariateGaussian, TanhGaussian
from gaussjax.distributions.special import tanh_log_det


class Ours:
    """Methods of a torch distribution that call one of our distributions, whose actions are the flattened events."""

    def _ours(self) -> Any:
        raise NotImplementedError

    def _event(self, actions: torch.Tensor) -> torch.Tensor:
        return actions.reshape((*actions.shape[:-1], *self.event_shape))

    def _actions(self, event: torch.Tensor) -> torch.Tensor:
        axes = len(self.event_shape)
        return event.reshape((*event.shape[: event.dim() - axes], math.prod(self.event_shape)))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        # A note in the tests allows another seed where another generator fails a statistical test by chance.
        key = gt.random.fold_in(gt.key(int(torch.randint(2**31, ()))), 1)
        with torch.no_grad():
            return self._event(self._ours().sample(key, tuple(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        ours = self._ours()
        noise = torch.randn(*sample_shape, *ours.loc.shape, dtype=ours.loc.dtype)
        return self._event(ours.from_noise(noise))

    def log_prob(self, value: Any) -> torch.Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self._ours().log_prob(self._actions(torch.as_tensor(value)))

    def cdf(self, value: Any) -> torch.Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return torch.exp(self._ours().log_cdf(self._actions(torch.as_tensor(value)))[..., 0])

    def icdf(self, value: Any) -> torch.Tensor:
        raise NotImplementedError

    def entropy(self) -> torch.Tensor:
        return self._ours().entropy()

    @property
    def mean(self) -> torch.Tensor:
        return self._event(self._ours().mean())

    @property
    def mode(self) -> torch.Tensor:
        return self._event(self._ours().mode())

    @property
    def stddev(self) -> torch.Tensor:
        return self._event(self._ours().stddev())

    @property
    def variance(self) -> torch.Tensor:
        return torch.square(self.stddev)


class Normal(Ours, peer.Normal):
    """A normal distribution of numbers."""

    def _ours(self) -> DiagGaussian:
        return DiagGaussian(self.loc[..., None], torch.log(self.scale)[..., None])


class MultivariateNormal(Ours, peer.MultivariateNormal):
    """A normal distribution with a covariance, its inverse or its factor."""

    def _ours(self) -> MultivariateGaussian:
        factor = self._unbroadcasted_scale_tril
        diagonal = torch.diagonal(factor, dim1=-2, dim2=-1)
        rows, columns = torch.tril_indices(*factor.shape[-2:], -1)
        return MultivariateGaussian(self.loc, torch.log(diagonal), (factor / diagonal[..., None])[..., rows, columns])

    def cdf(self, value: Any) -> torch.Tensor:
        raise NotImplementedError

    @lazy_property
    def covariance_matrix(self) -> torch.Tensor:
        return self._ours().covariance()

    @lazy_property
    def scale_tril(self) -> torch.Tensor:
        return self._ours().scale_tril()


class Independent(Ours, peer.Independent):
    """Independent normal distributions whose trailing batch axes belong to the event; torch's own class for others."""

    def __new__(cls, base_distribution: Any = None, *_: Any, **__: Any) -> Any:
        if base_distribution is None or isinstance(base_distribution, Normal):
            return object.__new__(cls)
        return peer.Independent(base_distribution, *_, **__)

    def _ours(self) -> DiagGaussian:
        return DiagGaussian(self._actions(self.base_dist.loc), torch.log(self._actions(self.base_dist.scale)))

    def cdf(self, value: Any) -> torch.Tensor:
        raise NotImplementedError


class TanhTransform(peer_transforms.TanhTransform):
    """The map of our squashed distribution onto (-1, 1)."""

    def _squashed(self, x: torch.Tensor) -> TanhGaussian:
        return TanhGaussian(x.new_zeros(1), x.new_zeros(1), low=-1.0, high=1.0)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self._squashed(x).squash(x[..., None])[..., 0]

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self._squashed(y).unsquash(y[..., None])[..., 0]

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return tanh_log_det(x)


for _kind in (Normal, MultivariateNormal, Independent):
    peer.register_kl(_kind, _kind)(lambda one, other: one._ours().kl_divergence(other._ours()))


def prepare(module: Any) -> None:
    """Restricts the tests that go through examples of every distribution to those of the classes above."""
    for name in ("_get_examples", "_get_bad_examples"):
        if examples := getattr(module, name, None):
            setattr(module, name, lambda examples=examples: [one for one in examples() if issubclass(one.Dist, Ours)])

"""Gaussian distributions as frozen pytrees with accurate formulas, and a base class for your own distributions."""

from gaussjax.core.arrays import align as align
from gaussjax.distributions.diagonal import DiagGaussian as DiagGaussian
from gaussjax.distributions.distribution import Distribution as Distribution
from gaussjax.distributions.multivariate import MultivariateGaussian as MultivariateGaussian
from gaussjax.distributions.pytree import register as register
from gaussjax.distributions.pytree import sized as sized
from gaussjax.distributions.pytree import static as static
from gaussjax.distributions.special import reduce as reduce
from gaussjax.distributions.squashed import TanhGaussian as TanhGaussian

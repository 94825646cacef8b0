"""Gaussian distributions as frozen pytrees with accurate formulas, and a base class for your own distributions."""

from gaussjax.core.arrays import align as align
from gaussjax.distributions.censored import CensoredGaussian as CensoredGaussian
from gaussjax.distributions.diagonal import DiagGaussian as DiagGaussian
from gaussjax.distributions.distribution import Distribution as Distribution
from gaussjax.distributions.distribution import reduce as reduce
from gaussjax.distributions.distribution import register as register
from gaussjax.distributions.distribution import sized as sized
from gaussjax.distributions.distribution import static as static
from gaussjax.distributions.multivariate import MultivariateGaussian as MultivariateGaussian
from gaussjax.distributions.squashed import TanhGaussian as TanhGaussian
from gaussjax.distributions.truncated import TruncatedGaussian as TruncatedGaussian

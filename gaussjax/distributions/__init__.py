"""Gaussian distributions as small frozen pytrees with careful numerics."""

from gaussjax.distributions.diagonal import DiagGaussian as DiagGaussian
from gaussjax.distributions.distribution import Distribution as Distribution
from gaussjax.distributions.multivariate import MultivariateGaussian as MultivariateGaussian
from gaussjax.distributions.squashed import TanhGaussian as TanhGaussian

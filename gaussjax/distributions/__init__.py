"""Gaussian distributions as small frozen pytrees with careful numerics."""

from gaussjax.distributions.diagonal import DiagGaussian as DiagGaussian

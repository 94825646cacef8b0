"""Policies, arrays and helpers of the tests that hold our models beside those of skrl; run by skrl's Python."""

import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax import networks
from gaussjax.interop import skrl

SEEN = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
BOX = gymnasium.spaces.Box(-0.5, 0.5, (2,))
LOG_STD = np.array([-0.5, 2.5], np.float32)
generator = np.random.default_rng(0)
WEIGHTS = generator.normal(size=(3, 2)).astype(np.float32)
X, TAKEN = (generator.normal(size=(6, width)).astype(np.float32) for width in (3, 2))
PARAMS = {"params": {"head": {"mean": {"kernel": WEIGHTS, "bias": np.zeros(2, np.float32)}, "log_std": LOG_STD}}}
FRAMEWORKS = pytest.mark.parametrize("framework", ["torch", "jax"])


def made(framework, policy, **options):
    """Our model in one framework."""
    if framework == "torch":
        return skrl.torch_model(policy, device="cpu", **options)
    return skrl.jax_model(policy, jax.random.key(0), device="cpu", **options)


def array(framework, value):
    return torch.from_numpy(np.array(value)) if framework == "torch" else jnp.asarray(value)


def numbers(value):
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def close(found, expected, **options):
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_allclose(numbers(found), numbers(expected), **{"rtol": 2e-5, "atol": 2e-6, **options})


def linear(box=BOX, factory=gaussjax.gaussian, **options):
    network = networks.MLP((), output_activation=None)
    return factory(network, SEEN, box, **options)


def main(path, *arguments):
    """Runs the tests of one file."""
    torch.set_num_threads(1)
    sys.exit(pytest.main(["-q", "--noconftest", "-c", "/dev/null", "-p", "no:cacheprovider", path, *arguments]))

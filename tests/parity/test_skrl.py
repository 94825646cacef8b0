"""gaussjax.interop.skrl beside the real skrl 2.1.1: the same numbers, and where they differ on purpose, both."""

import itertools

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.torch
from gaussjax.interop import skrl
from tests import policies
from tests.parity.peer import run
from tests.parity.twins import numbers

BOUNDS = {"full": ((-0.5, -0.5), (0.5, 0.5)), "half": ((-0.5, -0.5), (np.inf, 0.5)), "none": (-np.inf, np.inf)}
ROWS = list(itertools.product(BOUNDS, (False, True), ("sum", "mean", "prod", "none")))


class TorchProduct(torch.nn.Module):
    """A network that is one matrix product; in JAX it is `policies.PlainNetwork`."""

    def __init__(self, log_std):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(3, 2))
        self.log_std = torch.from_numpy(log_std)

    def forward(self, observations):
        return observations @ self.weights, self.log_std, {}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run("skrl_reference.py", tmp_path_factory.mktemp("skrl"))


def profiled(reference, framework, bounds, clip, reduction):
    """The policy under the calling convention of skrl 2.1.1, and its parameters."""
    options = {"clip_actions": clip, "clip_mean_actions": clip, "reduction": reduction}
    box = gaussjax.spaces.Box(*BOUNDS[bounds], (2,))
    if framework == "jax":
        policy = gaussjax.gaussian(policies.PlainNetwork(), 3, box, **options)
        return policy, {name: reference[name] for name in ("weights", "log_std")}
    policy = gaussjax.torch.gaussian(TorchProduct(reference["log_std"]), 3, box, **options)
    return policy, {"weights": torch.from_numpy(reference["weights"])}


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_values_shapes_reductions_and_clips_are_those_of_skrl(reference, framework):
    compared = 0
    for bounds, clip, reduction in ROWS:
        name = f"{framework} {bounds} {clip} {reduction}"
        if f"{name} error" in reference:
            continue
        policy, params = profiled(reference, framework, bounds, clip, reduction)
        key = jax.random.key(0) if framework == "jax" else gaussjax.torch.key(0)
        observations, noise = reference["observations"], reference[f"{name} noise"]
        acted = policy.act(params, None, observations, noise=noise)
        model = skrl.profile(policy, "2.1.1")
        inputs = {"observations": observations, "taken_actions": reference["taken"]}
        _, outputs = model.act(params, key, inputs)
        found = {"actions": acted.actions, "log_prob": acted.log_prob}
        found |= {"mean": outputs["mean_actions"], "scored": outputs["log_prob"]}
        for what, value in found.items():
            expected = reference[f"{name} {what}"]
            assert tuple(value.shape) == expected.shape, (name, what)
            np.testing.assert_allclose(numbers(value), expected, rtol=2e-5, atol=2e-6, err_msg=name)
        compared += 1
    assert compared == (24 if framework == "jax" else 20)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_entropy_is_summed_as_in_skrl_but_always_has_the_batch(reference, framework):
    for reduction in ("sum", "none"):
        policy, params = profiled(reference, framework, "full", False, reduction)
        entropy = skrl.profile(policy, "2.1.1").entropy(params, {"observations": reference["observations"]})
        theirs = reference[f"{framework} full False {reduction} entropy"]
        # skrl's JAX model gives one number where log_std is a parameter, and its page promises (N, 1).
        assert theirs.shape == ((1,) if framework == "jax" else (6, 1))
        assert tuple(entropy.shape) == (6, 1)
        np.testing.assert_allclose(numbers(entropy), np.broadcast_to(theirs, (6, 1)), rtol=1e-6)


@pytest.mark.slow
def test_clipping_to_an_open_box_is_no_error(reference):
    # skrl's torch model raises; a clip that has nothing to clip is none.
    for reduction in ("sum", "none"):
        assert "RuntimeError" in str(reference[f"torch none True {reduction} error"])
        policy, params = profiled(reference, "torch", "none", True, reduction)
        free, _ = profiled(reference, "torch", "none", False, reduction)
        noise = reference["torch none False sum noise"]
        one = policy.act(params, None, reference["observations"], noise=noise)
        assert (one.actions == free.act(params, None, reference["observations"], noise=noise).actions).all()

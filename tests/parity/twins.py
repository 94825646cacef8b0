"""Pairs of policies, JAX and torch, and how their numbers are compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import gaussjax.torch
from tests import policies

# Networks that users write know nothing of the other framework.
NAMES = [name for name in policies.TABLE if not name.endswith(("own-module", "plain-network"))]
RELATIVE = {"float32": 1e-5, "float64": 1e-12}


def pair(name: str, dtype: str = "float32", **options: Any) -> tuple[Any, Any, Any, Any]:
    """The policy of a row in JAX and in torch, each with the same parameters, none of which is 0."""
    policy = policies.build(name, **options)
    params = policies.as_type(policies.random_params(policy), dtype)
    twin = gaussjax.torch.from_spec(policy.spec)
    return policy, twin, params, gaussjax.torch.to_torch(policy.spec, params)


def carries(policy: Any, batch_shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The carry as an option of the policy's functions in JAX and in torch, filled with numbers."""
    carry = policy.initial_carry(batch_shape)
    if not jax.tree.leaves(carry):
        return {}, {}
    generator = np.random.default_rng(1)
    filled = jax.tree.map(lambda c: jnp.asarray(0.5 * generator.normal(size=c.shape), c.dtype), carry)
    return {"carry": filled}, {"carry": jax.tree.map(lambda c: torch.from_numpy(np.array(c)), filled)}


def numbers(value: Any) -> np.ndarray:
    """An array or tensor in float64."""
    value = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    return value.astype(np.float64)


def assert_same(ours: Any, theirs: Any, relative: float, what: str = "") -> None:
    """Trees of JAX arrays and of tensors differ by at most so much of each array's largest entry."""
    found, expected = jax.tree.leaves(theirs), jax.tree_util.tree_flatten_with_path(ours)[0]
    assert len(found) == len(expected), what
    for (path, one), other in zip(expected, found, strict=True):
        assert tuple(one.shape) == tuple(other.shape), (what, path)
        assert str(other.dtype).removeprefix("torch.") == one.dtype.name, (what, path)
        one, other = numbers(one), numbers(other)
        difference = np.max(np.abs(one - other), initial=0.0)
        assert difference <= relative * max(np.max(np.abs(one), initial=0.0), 1e-3), (what, path, difference)

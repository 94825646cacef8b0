"""Faults that Gaussian policies in JAX are known for, each shown to be absent.

They come from keys held in Python, parameters changed after `init`, and densities computed from
the standard deviation in the type of the inputs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gaussjax
from gaussjax.networks import MLP, ActorCritic
from gaussjax.spaces import Box
from tests import policies

OBSERVATIONS = np.linspace(-1.0, 1.0, 15, dtype=np.float32).reshape(5, 3)
BOX = Box(-1.0, 1.0, (2,))


@pytest.fixture(scope="module")
def policy():
    return policies.make("gaussian")[0]


@pytest.fixture(scope="module")
def params():
    return policies.make("gaussian")[1]


def test_a_callers_jit_does_not_freeze_the_noise(policy, params):
    act = jax.jit(lambda key: policy.act(params, key, OBSERVATIONS).actions)
    first, second = (act(jax.random.key(seed)) for seed in (0, 1))
    assert np.all(first != second)


def test_every_step_of_a_scan_draws_anew(policy, params):
    def step(key, _):
        key, draw = jax.random.split(key)
        return key, policy.act(params, draw, OBSERVATIONS).actions

    _, actions = jax.lax.scan(step, jax.random.key(0), length=4)
    assert np.unique(actions).size == actions.size


def test_two_policies_share_no_state():
    twins = [gaussjax.gaussian(MLP((8, 8)), 3, BOX) for _ in range(2)]
    params = twins[0].init(jax.random.key(0))
    twins[0].act(params, jax.random.key(1), OBSERVATIONS)
    first, second = (twin.act(params, jax.random.key(2), OBSERVATIONS).actions for twin in twins)
    np.testing.assert_array_equal(first, second)


def test_twins_from_different_keys_differ_in_every_kernel():
    policy = gaussjax.gaussian(ActorCritic(MLP((8, 8)), sizes=(8, 8)), 3, BOX)
    first, second = (policy.init(key) for key in jax.random.split(jax.random.key(0)))
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    differ = [np.all(a != b) for a, b in pairs if a.ndim == 2]
    assert differ == [True] * 6


def test_layers_of_one_shape_start_differently():
    policy = gaussjax.gaussian(ActorCritic(MLP((3, 3, 3)), sizes=(3, 3, 3), initializer="lecun_normal"), 3, BOX)
    leaves = jax.tree.leaves(policy.init(jax.random.key(0)))
    square = [np.asarray(leaf) for leaf in leaves if leaf.shape == (3, 3)]
    assert len(square) == 6
    assert len({kernel.tobytes() for kernel in square}) == 6


@pytest.fixture(scope="module", params=[False, True], ids=["free", "clipped"])
def total(request):
    """Parameters, and the sum of the log-densities of a draw with its gradient by them."""
    policy = gaussjax.gaussian(MLP((8,)), 3, BOX, clip_log_std=False, clip_actions=request.param)

    def total(params):
        sampled = policy.act(params, jax.random.key(1), OBSERVATIONS)
        taken_actions = jax.lax.stop_gradient(sampled.outputs["raw_actions"])
        scored = policy.evaluate(params, OBSERVATIONS, taken_actions)
        return jnp.sum(sampled.log_prob) + jnp.sum(scored.log_prob)

    return policy.init(jax.random.key(0))["params"], jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize("log_std", [-60.0, -45.0, -20.0, 0.0, 40.0, 50.0])
def test_densities_and_their_gradients_are_finite_at_any_log_std(total, log_std):
    params, function = total
    head = {**params["head"], "log_std": jnp.full(2, log_std)}
    value, gradient = function({"params": {**params, "head": head}})
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_log_prob_of_a_narrow_policy_is_that_of_its_noise():
    # Around a mean of 0.9 float32 has steps of 6e-8 while the std is 2e-9: the action is the mean,
    # and a density recomputed from it would see no noise. -½·1 + 20 - c = 18.5810615
    policy = gaussjax.gaussian(MLP((8,)), 3, Box(shape=(1,)))
    params = jax.tree.map(jnp.zeros_like, policy.init(jax.random.key(0)))
    params["params"]["head"]["mean"]["bias"] = jnp.full(1, 1.4)
    params["params"]["head"]["log_std"] = jnp.full(1, -20.0)
    result = policy.act(params, None, OBSERVATIONS, noise=np.ones((5, 1), np.float32))
    np.testing.assert_array_equal(result.actions, result.outputs["mean_actions"])
    np.testing.assert_allclose(result.log_prob, np.full((5, 1), 18.5810615), rtol=1e-6)

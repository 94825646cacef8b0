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


def test_two_policies_share_no_state():
    twins = [gaussjax.gaussian(MLP((8, 8)), 3, BOX) for _ in range(2)]
    params = policies.random_params(twins[0])
    twins[0].act(params, jax.random.key(1), OBSERVATIONS)
    first, second = (twin.act(params, jax.random.key(2), OBSERVATIONS).actions for twin in twins)
    np.testing.assert_array_equal(first, second)


def test_kernels_of_one_shape_differ_among_layers_and_among_twins_from_different_keys():
    policy = gaussjax.gaussian(ActorCritic(MLP((3, 3)), sizes=(3, 3), initializer="lecun_normal"), 3, BOX)
    twins = [jax.tree.leaves(policy.init(key)) for key in jax.random.split(jax.random.key(0))]
    assert all(np.all(one != other) for one, other in zip(*twins, strict=True) if one.ndim == 2)
    square = {np.asarray(leaf).tobytes() for leaves in twins for leaf in leaves if leaf.shape == (3, 3)}
    assert len(square) == 2 * 4


@pytest.fixture(scope="module", params=[False, True], ids=["free", "clipped"])
def total(request):
    """Parameters, and the sum of the log-densities of a draw with its gradient by them."""
    policy = gaussjax.gaussian(MLP((8,)), 3, BOX, clip_log_std=False, clip_actions=request.param)

    def total(params):
        sampled = policy.act(params, jax.random.key(1), OBSERVATIONS)
        taken_actions = jax.lax.stop_gradient(sampled.outputs["raw_actions"])
        scored = policy.evaluate(params, OBSERVATIONS, taken_actions)
        return jnp.sum(sampled.log_prob) + jnp.sum(scored.log_prob)

    return policies.random_params(policy)["params"], jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize("log_std", [-60.0, -45.0, -20.0, 0.0, 40.0, 50.0])
def test_densities_and_their_gradients_are_finite_at_any_log_std(total, log_std):
    params, function = total
    head = {**params["head"], "log_std": np.full(2, log_std, np.float32)}
    value, gradient = function({"params": {**params, "head": head}})
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_log_prob_of_a_narrow_policy_is_that_of_its_noise():
    # Around a mean of 0.9 float32 has steps of 6e-8 while the std is 2e-9: the action is the mean,
    # and a density recomputed from it would see no noise. -½·1 + 20 - c = 18.5810615
    policy = gaussjax.gaussian(MLP((8,)), 3, Box(shape=(1,)))
    params = policies.only_noise(policies.random_params(policy))
    params["params"]["head"]["mean"]["bias"] += 1.4
    params["params"]["head"]["log_std"] -= 20.0
    result = policy.act(params, None, OBSERVATIONS, noise=np.ones((5, 1), np.float32))
    np.testing.assert_array_equal(result.actions, result.outputs["mean_actions"])
    np.testing.assert_allclose(result.log_prob, np.full((5, 1), 18.5810615), rtol=1e-6)

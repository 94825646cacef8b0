import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import gaussjax
from gaussjax.networks import MLP, from_nnx
from tests import policies

ACTIONS = gaussjax.spaces.Box(shape=(2,))


class Dense(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 8, rngs=rngs), nnx.Linear(8, 4, rngs=rngs)])
        self.mean = nnx.Linear(4, 2, rngs=rngs)
        self.log_std = nnx.Param(jnp.zeros(2))

    def __call__(self, observations):
        for layer in self.layers:
            observations = nnx.relu(layer(observations))
        return jnp.tanh(self.mean(observations)), self.log_std[...], {}


class Counter(nnx.Module):
    """A memory that adds up the observations."""

    def __init__(self, rngs):
        self.mean = nnx.Linear(3, 2, rngs=rngs)

    def initial_carry(self, batch_shape=()):
        return jnp.zeros((*batch_shape, 3))

    def __call__(self, observations, carry, resets):
        carry = observations + (carry if resets is None else jnp.where(resets[..., None], 0.0, carry))
        return self.mean(carry), jnp.zeros(2), {"carry": carry}


class WithDropout(Dense):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


def test_an_nnx_module_is_the_same_network():
    policy, reference = (gaussjax.gaussian(network, 3, ACTIONS) for network in (from_nnx(Dense), MLP((8, 4))))
    params = policies.random_params(policy)
    head = {"log_std": params["log_std"], "mean": params["mean"]}
    layers = {f"dense_{i}": params["layers"][i] for i in range(2)}
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    got = policy.act(params, jax.random.key(1), x)
    expected = reference.act({"params": {"head": head, "layers": layers}}, jax.random.key(1), x)
    np.testing.assert_allclose(got.actions, expected.actions, atol=1e-6)
    gradient = jax.eval_shape(jax.grad(lambda p: jnp.sum(policy.evaluate(p, x, got.actions).log_prob)), params)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


def test_every_key_makes_other_parameters_also_in_a_population():
    policy = gaussjax.gaussian(from_nnx(Dense), 3, ACTIONS)
    # Of the initial parameters only one kernel is compiled.
    kernel = jax.vmap(lambda key: policy.init(key)["mean"]["kernel"])
    assert np.unique(jax.jit(kernel)(jax.random.split(jax.random.key(0), 3))).size == 3 * 8
    members = jax.tree.map(lambda leaf: np.stack([leaf] * 3), policies.random_params(policy))
    act = jax.vmap(lambda params: policy.act(params, None, np.ones(3, np.float32), deterministic=True).actions)
    assert jax.eval_shape(act, members).shape == (3, 2)


def test_a_recurrent_module_brings_its_carry():
    policy = gaussjax.gaussian(from_nnx(Counter), 3, ACTIONS)
    params = policies.random_params(policy)
    first = policy.apply(params, jnp.ones((4, 3)), carry=policy.initial_carry((4,)))[1]
    second = policy.apply(params, jnp.ones((4, 3)), carry=first["carry"], resets=jnp.arange(4) > 1)[1]
    assert second["carry"][:, 0].tolist() == [2.0, 2.0, 1.0, 1.0]


def test_other_variables_are_refused():
    policy = gaussjax.gaussian(from_nnx(WithDropout), 3, ACTIONS)
    with pytest.raises(ValueError, match=r"expected nnx.Param only, got variables of the types .*Rng"):
        policy.init(jax.random.key(0))


def test_a_class_that_takes_rngs_by_name_is_made_and_an_instance_refused():
    class Named(Dense):
        def __init__(self, *, rngs):
            super().__init__(rngs)

    inits = (gaussjax.gaussian(from_nnx(make), 3, ACTIONS).init for make in (Named, Dense))
    made, same = (jax.jit(lambda key, init=init: init(key)["mean"])(jax.random.key(0)) for init in inits)
    jax.tree.map(np.testing.assert_array_equal, made, same)
    with pytest.raises(TypeError, match=r"make: expected a function of nnx.Rngs, got a module of Dense\. Pass the"):
        from_nnx(Dense(nnx.Rngs(0)))

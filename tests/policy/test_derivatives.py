"""Every kind of policy with every network differentiates in both modes, to the second order, as finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gaussjax
from gaussjax.core.arrays import xp
from gaussjax.networks import CNN, GRU, LSTM, MLP, RNN, ActorCritic, Graph, MinGRU
from gaussjax.spaces import Box
from gaussjax.torch import to_torch
from tests import policies

BOX = Box(-0.25, 0.25, (2,))
KINDS = {
    "gaussian": (gaussjax.gaussian, {}),
    "clipped": (gaussjax.gaussian, {"clip_actions": True, "clip_mean_actions": True}),
    "unclipped": (gaussjax.gaussian, {"clip_actions": True, "clipped_log_prob": "unclipped"}),
    "censored": (gaussjax.gaussian, {"clip_actions": True, "clipped_log_prob": "censored"}),
    "squashed": (gaussjax.squashed_gaussian, {}),
    "truncated": (gaussjax.truncated_gaussian, {}),
    "multivariate": (gaussjax.multivariate_gaussian, {}),
}
IMAGES = Box(0.0, 1.0, (4, 4, 1))
PAST = [{"name": "past", "layers": [{"gru": 3}]}, {"name": "both", "input": "past", "layers": [3, "tanh"]}]
NETWORKS = {
    "MLP": (MLP((4,), activation="tanh", std="state"), 3),
    "gSDE": (GRU(3, sizes=(), std="gsde", learn_features=True), 3),
    "CNN": (CNN((2,), (3,), (1,), sizes=(3,), activation="tanh", convolution_activation="tanh"), IMAGES),
    "RNN": (RNN(3, sizes=()), 3),
    "LSTM": (LSTM(3, sizes=()), 3),
    "GRU": (GRU(3, sizes=()), 3),
    "MinGRU": (MinGRU(3, sizes=(), num_layers=2), 3),
    "ActorCritic": (ActorCritic(GRU(3, sizes=()), critic=LSTM(3, sizes=()), sizes=(3,)), 3),
    "Graph": (Graph(nodes=PAST, value="both"), 3),
}
PAIRS = [(kind, network) for network in NETWORKS for kind in KINDS]
# The head alone tells kinds apart, so numbers are computed for each kind with one network, and for each network once.
NUMBERS = [pair for pair in PAIRS if "gaussian" in pair or "MLP" in pair]
# XLA's optimisations take longer than these small programs.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def derivatives(kind, network):
    """A loss along one direction of the parameters, observations and carry, and its derivatives in all modes."""
    (factory, options), (module, space) = KINDS[kind], NETWORKS[network]
    policy, generator = factory(module, space, BOX, **options), np.random.default_rng(0)
    recurrent, batch = bool(jax.tree.leaves(policy.initial_carry())), (2, 2)
    given = policies.random_params(policy), policies.observations(policy, batch), policy.initial_carry((2,))
    given = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), given)
    direction = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), given)
    noise, raw_actions = (generator.normal(size=(*batch, *shape)) for shape in (policy.noise_shape, (2,)))
    # A truncated policy scores actions within its Box only.
    raw_actions = 0.25 * np.tanh(raw_actions) if kind == "truncated" else raw_actions

    def loss(step):
        params, observations, carry = jax.tree.map(lambda leaf, way: leaf + step * way, given, direction)
        memory = {"carry": carry, "resets": np.array([[0, 1], [0, 0]], bool)} if recurrent else {}
        acted = policy.act(params, None, observations, noise=noise, **memory)
        distribution = policy.distribution(acted.outputs)
        scored = policy.kind.raw_log_prob(distribution, raw_actions, "sum")
        parts = acted.log_prob, 9.0 * acted.actions, scored, distribution.entropy()
        return sum(jnp.sum(jnp.sin(part)) for part in (*parts, acted.outputs.get("value", jnp.zeros(()))))

    reverse, forward = jax.grad(loss), lambda step: jax.jvp(loss, (step,), (1.0,))[1]
    first = {"reverse": reverse, "forward": forward, "linearized": lambda step: jax.linearize(loss, step)[1](1.0)}
    second = {
        "forward over reverse": lambda step: jax.jvp(reverse, (step,), (1.0,))[1],
        "reverse over forward": jax.grad(forward),
        "forward over forward": lambda step: jax.jvp(forward, (step,), (1.0,))[1],
        "reverse over reverse": jax.grad(reverse),
    }
    return loss, first, second


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "network"),
    [pytest.param(*pair, marks=() if pair == ("gaussian", "MLP") else pytest.mark.slow) for pair in NUMBERS],
)
def test_both_modes_agree_with_finite_differences_to_the_second_order(kind, network):
    loss, first, second = derivatives(kind, network)
    size, loss_and_slope = 1e-5, jax.jit(lambda step: (loss(step), first["reverse"](step)), compiler_options=QUICK)
    differences = [(a - b) / (2 * size) for a, b in zip(*map(loss_and_slope, (size, -size)), strict=True)]
    for expected, modes in zip(differences, (first, second), strict=True):
        for mode, derivative in modes.items():
            found = jax.jit(derivative, compiler_options=QUICK)(0.0)
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=mode)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("kind", "network"), [pair for pair in PAIRS if pair not in NUMBERS])
def test_no_pair_refuses_a_mode(kind, network):
    _, first, second = derivatives(kind, network)
    for derivative in (*first.values(), *second.values()):
        assert jax.eval_shape(derivative, 0.0).shape == ()


MASKED = [pair for pair in PAIRS if pair[1] in ("GRU", "gSDE", "MinGRU", "ActorCritic", "Graph")]
QUICKLY = {("gaussian", "GRU"), ("multivariate", "ActorCritic")}


@pytest.mark.without("jax_debug_nans")
@pytest.mark.parametrize(
    ("kind", "network"), [pytest.param(*pair, marks=() if pair in QUICKLY else pytest.mark.slow) for pair in MASKED]
)
def test_a_loss_may_leave_out_the_rows_between_a_broken_observation_and_a_reset(kind, network):
    (factory, options), (module, space) = KINDS[kind], NETWORKS[network]
    policy, generator = factory(module, space, BOX, **options), np.random.default_rng(0)
    params, carry = policies.random_params(policy), policy.initial_carry((2,))
    observations = generator.normal(size=(5, 2, 3)).astype(np.float32)
    actions = (0.25 * np.tanh(generator.normal(size=(5, 2, 2)))).astype(np.float32)
    noise = generator.normal(size=(5, 2, *policy.noise_shape)).astype(np.float32)
    resets, kept = np.zeros((5, 2), bool), np.ones((5, 2), bool)
    resets[3, 0], kept[1:3, 0] = True, False

    def loss(policy, params, observations, kept):
        memory = {"carry": carry, "resets": resets}
        score, entropy, outputs = policy.evaluate(params, observations, raw_actions=actions, **memory)
        drawn = policy.act(params, None, observations, noise=noise, **memory)
        parts = (
            score[..., 0],
            entropy[..., 0],
            drawn.outputs["raw_actions"][..., 0],
            outputs.get("value", 0.0 * score[..., 0]) ** 2,
        )
        return sum(xp.sum(xp.where(kept, part, 0.0)) for part in parts)

    def both(observations):
        with_jax = jax.value_and_grad(lambda params: loss(policy, params, observations, kept))(params)
        leaves = {name: leaf.requires_grad_() for name, leaf in to_torch(policy.spec, params).items()}
        total = loss(gaussjax.torch.from_spec(policy.spec), leaves, torch.tensor(observations), torch.tensor(kept))
        total.backward()
        return with_jax, [total.detach(), *(leaf.grad for leaf in leaves.values() if leaf.grad is not None)]

    expected = both(observations)
    observations[1, 0, 1] = np.nan
    assert not np.isfinite(policy.apply(params, observations, carry=carry, resets=resets)[0].loc[1:3, 0]).any()
    for found, true in zip(jax.tree.leaves(both(observations)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-6, atol=1e-6)

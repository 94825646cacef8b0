"""Every kind of policy, network and option: the numbers of JAX are those of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gaussjax.torch import to_torch
from tests import policies
from tests.parity.twins import NAMES, RELATIVE, assert_same, carries, pair

BATCH = (5,)
# Each kind with one of the reductions; the slow tests have them all.
QUICK = {"gaussian-clipped": "prod", "squashed": "none", "multivariate": "mean"}


def seen(policy, dtype):
    """Observations in that type; pixels too, which as bytes would be scaled in float32."""
    observations = policies.observations(policy, BATCH)
    pixels = dtype == "float64" and getattr(observations, "dtype", None) == np.uint8
    return jax.tree.map(np.asarray, policies.as_type(observations.astype(dtype) if pixels else observations, dtype))


def compare_outputs(name: str, dtype: str) -> None:
    policy, twin, params, tensors = pair(name, dtype)
    observations = seen(policy, dtype)
    noise, actions = (draw(policy, BATCH).astype(dtype) for draw in (policies.noise, policies.actions))
    ours, theirs = carries(policy, BATCH)
    bar, raw_alone = RELATIVE[dtype], dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    calls = [{"noise": noise}, {"deterministic": True}]
    calls += [] if raw_alone else [{"noise": noise, "taken_actions": 0.5 * actions}]
    scorings = [{"raw_actions": actions}] + ([] if raw_alone else [{"taken_actions": np.tanh(actions)}])

    @jax.jit
    def everything(params, observations):
        """All that JAX's policy says, in one program."""
        other = jax.tree.map(lambda p: 1.25 * p, params)
        one, another = (policy.apply(each, observations, **ours)[0] for each in (params, other))
        return (
            [policy.act(params, None, observations, **options, **ours) for options in calls],
            [policy.evaluate(params, observations, **scoring, **ours) for scoring in scorings],
            {name: getattr(policy, name)(params, observations, **ours) for name in ("entropy", "log_std")},
            one.kl_divergence(another),
        )

    acted, scored, each, divergence = everything(params, observations)
    for options, expected in zip(calls, acted, strict=True):
        found = twin.act(tensors, None, observations, **options, **theirs)
        assert type(found) is type(expected)
        assert set(found.outputs) == set(expected.outputs)
        assert_same(expected, found, bar, f"act {sorted(options)}")
    for scoring, expected in zip(scorings, scored, strict=True):
        found = twin.evaluate(tensors, observations, **scoring, **theirs)
        assert_same(expected, found, bar, f"evaluate {sorted(scoring)}")
    for function, expected in each.items():
        assert_same(expected, getattr(twin, function)(tensors, observations, **theirs), bar, function)
    others = {name: 1.25 * tensor for name, tensor in tensors.items()}
    found = twin.apply(tensors, observations, **theirs)[0].kl_divergence(twin.apply(others, observations, **theirs)[0])
    assert_same(divergence, found, 10 * bar, "kl_divergence")


def compare_gradients(name: str, dtype: str) -> None:
    policy, twin, params, tensors = pair(name, dtype)
    observations = seen(policy, dtype)
    ours, theirs = carries(policy, BATCH)
    noise, actions = (draw(policy, BATCH).astype(dtype) for draw in (policies.noise, policies.actions))
    raw_alone = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    scoring = {"raw_actions" if raw_alone else "taken_actions": 0.5 * np.tanh(actions)}
    old = twin.evaluate(tensors, observations, **scoring, **theirs).log_prob.sum(-1).detach().numpy() + 0.1

    def losses(policy, params, observations, memory, xp):
        """The surrogate of PPO with its bonus, and the loss of SAC's actor."""
        old_log_prob, advantages, slopes = (xp.asarray(array) for array in (old, actions[:, 0], actions))
        log_prob, entropy, _ = policy.evaluate(params, observations, **scoring, **memory)
        ratios = xp.exp(xp.clip(log_prob.sum(-1) - old_log_prob, -20.0, 20.0))
        gained = xp.minimum(ratios * advantages, xp.clip(ratios, 0.8, 1.2) * advantages)
        acted, log_prob, _ = policy.act(params, None, observations, noise=noise, **memory)
        sac = 0.2 * log_prob.sum(-1) - (xp.sin(acted) * slopes).sum(-1)
        return {"ppo": -gained.mean() - 0.01 * entropy.mean(), "sac": sac.mean()}

    expected = jax.jit(jax.jacrev(lambda p: losses(policy, p, observations, ours, jnp)))(params)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    for loss, value in losses(twin, leaves, observations, theirs, torch).items():
        options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        found = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()), **options), strict=True))
        largest = max(np.max(np.abs(gradient), initial=0.0) for gradient in jax.tree.leaves(expected[loss]))
        for key, gradient in to_torch(policy.spec, expected[loss]).items():
            difference = float((gradient - found[key]).abs().max()) if gradient.numel() else 0.0
            assert difference <= RELATIVE[dtype] * max(largest, 1.0), (loss, key, difference, largest)


@pytest.mark.dear
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_same(name):
    compare_outputs(name, "float32")


@pytest.mark.dear
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_ppo_and_sac_losses_are_the_same(name):
    compare_gradients(name, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_the_same_in_float64(name, x64):
    compare_outputs(name, "float64")
    compare_gradients(name, "float64")


@pytest.mark.parametrize(
    ("name", "reduction"),
    [
        pytest.param(name, reduction, marks=() if QUICK[name] == reduction else pytest.mark.slow)
        for name in QUICK
        for reduction in ("mean", "prod", "none")
    ],
)
def test_reductions_are_the_same(name, reduction):
    policy, twin, params, tensors = pair(name, reduction=reduction, keepdims=False)
    observations, noise = policies.observations(policy, BATCH), policies.noise(policy, BATCH)
    expected = policy.act(params, None, observations, noise=noise)
    assert_same(expected, twin.act(tensors, None, observations, noise=noise), 1e-5, reduction)


def test_the_head_alone_is_the_same_to_a_millionth():
    policy, _, params, _ = pair("gaussian")
    observations, noise = policies.observations(policy, (256,)), policies.noise(policy, (256,))
    functions = ("from_noise", "noise_log_prob", "log_prob")

    @jax.jit
    def in_jax(params):
        head = policy.apply(params, observations)[0]
        return head, [getattr(head, function)(noise) for function in functions]

    head, expected = in_jax(params)
    twin = type(head)(torch.from_numpy(np.array(head.loc)), torch.from_numpy(np.array(head.log_std)))
    for function, value in zip(functions, expected, strict=True):
        assert_same(value, getattr(twin, function)(torch.from_numpy(noise)), 1e-6, function)


# The formula of a step is one for both libraries; each cell's is compared in tests/networks/recurrent too.
@pytest.mark.parametrize(
    "name",
    [
        "gaussian-lstm",
        "gaussian-min-gru",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gaussian-rnn", "gaussian-gru")),
    ],
)
def test_sequences_with_resets_are_the_same(name):
    policy, twin, params, tensors = pair(name)
    ours, theirs = carries(policy, BATCH)
    observations, noise = policies.observations(policy, (7, *BATCH)), policies.noise(policy, (7, *BATCH))
    resets = np.random.default_rng(2).random((7, *BATCH)) < 0.3
    expected = policy.act(params, None, observations, noise=noise, resets=resets, **ours)
    assert_same(expected, twin.act(tensors, None, observations, noise=noise, resets=resets, **theirs), 1e-5)

"""Every kind of policy, network and option: the numbers of JAX are those of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gaussjax.torch import to_torch
from gaussjax.training.losses import clipped_surrogate, log_ratio
from tests import policies
from tests.parity.twins import NAMES, RELATIVE, assert_same, carries, pair

BATCH = (5,)


def seen(policy, dtype):
    """Observations in that type; pixels too, which as bytes would be scaled in float32."""
    observations = policies.observations(policy, BATCH)
    pixels = dtype == "float64" and getattr(observations, "dtype", None) == np.uint8
    return policies.as_type(observations.astype(dtype) if pixels else observations, dtype)


def compare_outputs(name: str, dtype: str) -> None:
    policy, twin, params, tensors = pair(name, dtype)
    observations = seen(policy, dtype)
    observed = jax.tree.map(np.asarray, observations)
    noise = policies.noise(policy, BATCH).astype(dtype)
    ours, theirs = carries(policy, BATCH)
    bar, raw_alone = RELATIVE[dtype], dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    calls = [{"noise": noise}, {"deterministic": True}]
    calls += [] if raw_alone else [{"noise": noise, "taken_actions": 0.5 * noise}]
    scorings = [{"raw_actions": noise}] + ([] if raw_alone else [{"taken_actions": np.tanh(noise)}])

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
        found = twin.act(tensors, None, observed, **options, **theirs)
        assert type(found) is type(expected)
        assert set(found.outputs) == set(expected.outputs)
        assert_same(expected, found, bar, f"act {sorted(options)}")
    for scoring, expected in zip(scorings, scored, strict=True):
        assert_same(expected, twin.evaluate(tensors, observed, **scoring, **theirs), bar, f"evaluate {sorted(scoring)}")
    for function, expected in each.items():
        assert_same(expected, getattr(twin, function)(tensors, observed, **theirs), bar, function)
    others = {name: 1.25 * tensor for name, tensor in tensors.items()}
    found = twin.apply(tensors, observed, **theirs)[0].kl_divergence(twin.apply(others, observed, **theirs)[0])
    assert_same(divergence, found, 10 * bar, "kl_divergence")


def compare_gradients(name: str, dtype: str) -> None:
    policy, twin, params, tensors = pair(name, dtype)
    observations = seen(policy, dtype)
    observed = jax.tree.map(np.asarray, observations)
    ours, theirs = carries(policy, BATCH)
    noise = policies.noise(policy, BATCH).astype(dtype)
    advantages = noise[:, 0]
    raw_alone = dict(policy.spec.options).get("clipped_log_prob") == "unclipped"
    scoring = {"raw_actions" if raw_alone else "taken_actions": 0.5 * np.tanh(noise)}

    def ppo_loss(evaluate, act, params, observations, memory, xp):
        log_prob, entropy, _ = evaluate(params, observations, **scoring, **memory)
        log_prob = log_prob.sum(-1)
        ratios = xp.exp(xp.clip(log_prob - old, -20.0, 20.0))
        clipped = xp.clip(ratios, 0.8, 1.2)
        gained = xp.minimum(ratios * weights, clipped * weights)
        return -gained.mean() - 0.01 * entropy.mean()

    def sac_loss(evaluate, act, params, observations, memory, xp):
        actions, log_prob, _ = act(params, None, observations, noise=noise, **memory)
        return (0.2 * log_prob.sum(-1) - (xp.sin(actions) * xp.asarray(noise)).sum(-1)).mean()

    for loss in (ppo_loss, sac_loss):
        old = jnp.asarray(policy.evaluate(params, observations, **scoring, **ours).log_prob.sum(-1) + 0.1)
        weights = jnp.asarray(advantages)
        expected = jax.jit(jax.grad(lambda p: loss(policy.evaluate, policy.act, p, observations, ours, jnp)))(params)  # noqa: B023
        old, weights = torch.from_numpy(np.array(old)), torch.from_numpy(advantages.copy())
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
        loss(twin.evaluate, twin.act, leaves, observed, theirs, torch).backward()
        found = {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in leaves.items()}
        largest = max(float(jnp.max(jnp.abs(g), initial=0.0)) for g in jax.tree.leaves(expected))
        for key, gradient in to_torch(policy.spec, expected).items():
            difference = float((gradient - found[key]).abs().max()) if gradient.numel() else 0.0
            assert difference <= RELATIVE[dtype] * max(largest, 1.0), (loss.__name__, key, difference, largest)


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


@pytest.mark.parametrize("name", ["gaussian-clipped", "squashed", "multivariate"])
@pytest.mark.parametrize("reduction", ["mean", "prod", "none"])
def test_reductions_are_the_same(name, reduction):
    policy, twin, params, tensors = pair(name, reduction=reduction, keepdims=False)
    observations, noise = policies.observations(policy, BATCH), policies.noise(policy, BATCH)
    expected = policy.act(params, None, observations, noise=noise)
    assert_same(expected, twin.act(tensors, None, observations, noise=noise), 1e-5, reduction)


def test_the_head_alone_is_the_same_to_a_millionth():
    policy, _, params, _ = pair("gaussian")
    observations, noise = policies.observations(policy, (256,)), policies.noise(policy, (256,))
    features = policy.apply(params, observations)[0]
    head = type(features)(torch.from_numpy(np.array(features.loc)), torch.from_numpy(np.array(features.log_std)))
    for function in ("from_noise", "noise_log_prob", "log_prob"):
        found = getattr(head, function)(torch.from_numpy(noise))
        assert_same(getattr(features, function)(noise), found, 1e-6, function)


@pytest.mark.parametrize("name", ["gaussian-rnn", "gaussian-gru", "gaussian-lstm", "gaussian-min-gru"])
def test_sequences_with_resets_are_the_same(name):
    policy, twin, params, tensors = pair(name)
    ours, theirs = carries(policy, BATCH)
    observations, noise = policies.observations(policy, (7, *BATCH)), policies.noise(policy, (7, *BATCH))
    resets = np.random.default_rng(2).random((7, *BATCH)) < 0.3
    expected = policy.act(params, None, observations, noise=noise, resets=resets, **ours)
    assert_same(expected, twin.act(tensors, None, observations, noise=noise, resets=resets, **theirs), 1e-5)


def test_losses_of_the_training_are_those_of_the_test():
    # The surrogate above, written for both frameworks, is the one that PPO minimises.
    log_ratios = np.array([-0.5, 0.1, 0.7], np.float32)
    advantages = np.array([1.0, -1.0, 2.0], np.float32)
    by_hand = -(np.exp(-0.5) - np.exp(0.1) + 2.0 * 1.2) / 3.0
    ours = clipped_surrogate(log_ratio(jnp.asarray(log_ratios), jnp.zeros(3)), jnp.asarray(advantages), 0.2)
    assert float(ours) == pytest.approx(by_hand, rel=1e-6)

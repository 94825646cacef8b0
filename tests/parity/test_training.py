"""Training: from one key, on the same recorded rollouts, both frameworks end at the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import gaussjax
from gaussjax.torch import from_spec, key, to_torch
from gaussjax.training.losses import clipped_surrogate, log_ratio, value_loss
from tests.parity.twins import numbers

_UPDATES, _STEPS, _BATCH = 50, 256, 64


def recorded(update, act):
    """Observations of one update, what the first policy did there, and made-up rewards."""
    generator = np.random.default_rng(update)
    observations = generator.normal(size=(_STEPS, 3)).astype(np.float32)
    acted = act(update, observations)
    actions, log_prob = numbers(acted.outputs["raw_actions"]), numbers(acted.log_prob)[:, 0]
    targets = (-np.square(actions - observations[:, :2]).sum(-1)).astype(np.float32)
    advantages = ((targets - targets.mean()) / targets.std()).astype(np.float32)
    return observations, actions.astype(np.float32), log_prob.astype(np.float32), advantages, targets


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["gaussian", "squashed_gaussian"])
def test_fifty_updates_of_ppo_end_at_the_same_parameters(factory):
    network = gaussjax.networks.ActorCritic(gaussjax.networks.MLP((64, 32), activation="tanh", output_activation=None))
    policy = getattr(gaussjax, factory)(network, 3, gaussjax.spaces.Box(-2.0, 2.0, (2,)), keepdims=True)
    twin = from_spec(policy.spec)
    ours, theirs = policy.init(jax.random.key(0)), twin.init(key(0))

    optimizer, first = optax.adam(3e-4), ours
    state = optimizer.init(ours)

    def loss(params, observations, raw_actions, old, advantages, targets):
        evaluated = policy.evaluate(params, observations, raw_actions=raw_actions)
        surrogate = clipped_surrogate(log_ratio(evaluated.log_prob[:, 0], old), advantages, 0.2)
        values = evaluated.outputs["value"]
        return surrogate + 0.5 * value_loss(values, targets, values, None) - 0.01 * evaluated.entropy.mean()

    @jax.jit
    def step(params, state, *batch):
        updates, state = optimizer.update(jax.grad(loss)(params, *batch), state)
        return optax.apply_updates(params, updates), state

    for update in range(_UPDATES):
        rollout = recorded(update, lambda i, x: policy.act(first, jax.random.key(i), x))
        for start in range(0, _STEPS, _BATCH):
            ours, state = step(ours, state, *(jnp.asarray(part[start : start + _BATCH]) for part in rollout))

    started = {name: tensor.clone() for name, tensor in theirs.items()}
    theirs = {name: tensor.requires_grad_() for name, tensor in theirs.items()}
    adam = torch.optim.Adam(theirs.values(), lr=3e-4)
    for update in range(_UPDATES):
        rollout = recorded(update, lambda i, x: twin.act(started, key(i), x))
        for start in range(0, _STEPS, _BATCH):
            observations, raw, old, advantages, targets = (
                torch.from_numpy(part[start : start + _BATCH]) for part in rollout
            )
            evaluated = twin.evaluate(theirs, observations, raw_actions=raw)
            ratios = torch.exp(torch.clip(evaluated.log_prob[:, 0] - old, -20.0, 20.0))
            gained = torch.minimum(ratios * advantages, torch.clip(ratios, 0.8, 1.2) * advantages)
            error = 0.5 * (evaluated.outputs["value"] - targets).square().mean()
            adam.zero_grad()
            (-gained.mean() + 0.5 * error - 0.01 * evaluated.entropy.mean()).backward()
            adam.step()

    moved = 0.0
    for name, tensor in to_torch(policy.spec, ours).items():
        moved = max(moved, float((tensor - started[name]).abs().max()))
        assert float((tensor - theirs[name].detach()).abs().max()) <= 1e-4, name
    assert moved > 0.01

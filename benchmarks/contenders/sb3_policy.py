"""The policy of Stable-Baselines3's PPO, without its critic."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from benchmarks import inputs
from benchmarks.contenders.with_torch import hardware, load, minibatch, norms, ppo_loss, wait
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware"]


def make(device: str, hidden: tuple[int, ...], gsde: bool = False) -> tuple[ActorCriticPolicy, list[torch.nn.Module]]:
    policy = ActorCriticPolicy(
        gymnasium.spaces.Box(-np.inf, np.inf, (inputs.OBSERVATIONS,)),
        gymnasium.spaces.Box(-1.0, 1.0, (inputs.ACTIONS,)),
        lambda _: 3e-4,
        net_arch={"pi": list(hidden), "vf": [1]},
        activation_fn=torch.nn.ELU,
        use_sde=gsde,
    ).to(device)
    modules = [*policy.mlp_extractor.policy_net, policy.action_net]
    weights = inputs.weights(tuple(hidden))
    if gsde:
        # One number for each feature and action.
        weights = weights._replace(log_std=np.tile(weights.log_std, (hidden[-1], 1)))
    load(modules, weights, policy.log_std)
    return policy, modules


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN, gsde: bool = False) -> Built:
    """One draw; with gSDE the matrices are held, so that no call draws one."""
    policy, _ = make(device, hidden, gsde)
    observations = inputs.observations(batch)
    if gsde:
        policy.reset_noise(batch)

    @torch.no_grad()
    def choose(observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Any]:
        distribution = policy.get_distribution(observations)
        actions = distribution.get_actions()
        return actions, distribution.log_prob(actions), distribution

    check = choose(torch.from_numpy(observations).to(device))[2].mode()[0]
    if resident:
        held = torch.from_numpy(observations).to(device)
        return Built(lambda: (choose(held), wait(device)), check)
    return Built(lambda: choose(torch.from_numpy(observations).to(device))[0].cpu().numpy(), check)


def evaluate(device: str, batch: int) -> Built:
    (policy, modules), samples = make(device, inputs.HIDDEN), minibatch(batch, device)
    observations, actions, old_log_prob, advantages = samples
    samples = [observations, actions, old_log_prob[:, 0], advantages[:, 0]]

    def gradient() -> None:
        policy.zero_grad()
        distribution = policy.get_distribution(observations)
        ppo_loss(distribution.log_prob(actions), distribution.entropy(), samples).backward()
        wait(device)

    gradient()
    return Built(gradient, norms(modules, policy.log_std))

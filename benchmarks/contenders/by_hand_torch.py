"""A policy in plain PyTorch, the least that a torch peer costs, and torch.func.vmap over policies."""

from __future__ import annotations

import torch
from torch.distributions import Normal

from benchmarks import inputs
from benchmarks.contenders.with_torch import hardware, load, minibatch, mlp, norms, ppo_loss, wait
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware", "population"]

Normal.set_default_validate_args(False)


class Policy(torch.nn.Module):
    """Linear layers and a `log_std` parameter."""

    def __init__(self, hidden: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.net = mlp(tuple(hidden))
        self.log_std = torch.nn.Parameter(torch.zeros(inputs.ACTIONS))
        load(self.net, inputs.weights(tuple(hidden), seed), self.log_std)

    def forward(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.net(observations), torch.clamp(self.log_std, -20.0, 2.0)


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN) -> Built:
    policy, observations = Policy(hidden).to(device), inputs.observations(batch)

    @torch.no_grad()
    def choose(observations: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, log_std = policy(observations)
        distribution = Normal(mean, log_std.exp())
        actions = distribution.sample()
        return actions, distribution.log_prob(actions).sum(-1, keepdim=True), mean

    check = choose(torch.from_numpy(observations).to(device))[2][0]
    if resident:
        held = torch.from_numpy(observations).to(device)
        return Built(lambda: (choose(held), wait(device)), check)
    return Built(lambda: choose(torch.from_numpy(observations).to(device))[0].cpu().numpy(), check)


def evaluate(device: str, batch: int) -> Built:
    policy, samples = Policy(inputs.HIDDEN).to(device), minibatch(batch, device)
    observations, actions, _, _ = samples

    def gradient() -> None:
        policy.zero_grad()
        mean, log_std = policy(observations)
        distribution = Normal(mean, log_std.exp())
        log_prob = distribution.log_prob(actions).sum(-1, keepdim=True)
        ppo_loss(log_prob, distribution.entropy().sum(-1, keepdim=True), samples).backward()
        wait(device)

    gradient()
    return Built(gradient, norms(policy.net, policy.log_std))


def population(device: str, policies: int) -> Built:
    """One observation for each policy, with torch.func.vmap."""
    distinct = [Policy(inputs.HIDDEN, seed).to(device) for seed in range(min(policies, 64))]
    params, _ = torch.func.stack_module_state([distinct[i % len(distinct)] for i in range(policies)])
    params = {name: tensor.detach() for name, tensor in params.items()}
    observations = torch.from_numpy(inputs.observations(policies)).to(device)[:, None]
    skeleton = distinct[0]

    def choose(params: dict[str, torch.Tensor], observations: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, log_std = torch.func.functional_call(skeleton, params, (observations,))
        std = log_std.exp()
        noise = torch.randn_like(mean)
        actions = mean + std * noise
        log_prob = (-0.5 * noise**2 - log_std).sum(-1, keepdim=True)
        return actions, log_prob, mean

    together = torch.func.vmap(choose, randomness="different")

    @torch.no_grad()
    def call() -> tuple[torch.Tensor, ...]:
        result = together(params, observations)
        wait(device)
        return result

    return Built(call, call()[2][-1, 0])

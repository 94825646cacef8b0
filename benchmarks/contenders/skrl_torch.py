"""skrl's Gaussian model in PyTorch, eager, as its trainers run it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from skrl.models.torch import GaussianMixin, Model

from benchmarks import inputs
from benchmarks.contenders.with_torch import hardware, load, minibatch, mlp, norms, ppo_loss, wait
from benchmarks.worker import Built

__all__ = ["act", "evaluate", "hardware"]


class Policy(GaussianMixin, Model):
    """The policy model, as a user of skrl would write it."""

    def __init__(self, device: str, hidden: tuple[int, ...]) -> None:
        spaces = {
            "observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (inputs.OBSERVATIONS,)),
            "action_space": gymnasium.spaces.Box(-1.0, 1.0, (inputs.ACTIONS,)),
        }
        Model.__init__(self, **spaces, device=device)
        GaussianMixin.__init__(self)
        self.net = mlp(tuple(hidden))
        self.log_std_parameter = torch.nn.Parameter(torch.zeros(inputs.ACTIONS))
        load(self.net, inputs.weights(tuple(hidden)), self.log_std_parameter)
        self.to(self.device)

    def compute(self, given: dict[str, Any], role: str) -> tuple[torch.Tensor, dict[str, Any]]:
        return self.net(given["observations"]), {"log_std": self.log_std_parameter}


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN) -> Built:
    policy, observations = Policy(device, hidden), inputs.observations(batch)

    @torch.no_grad()
    def choose(observations: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        return policy.act({"observations": observations}, role="policy")

    check = choose(torch.from_numpy(observations).to(device))[1]["mean_actions"][0]
    if resident:
        held = torch.from_numpy(observations).to(device)
        return Built(lambda: (choose(held), wait(device)), check)
    return Built(lambda: choose(torch.from_numpy(observations).to(device))[0].cpu().numpy(), check)


def evaluate(device: str, batch: int) -> Built:
    policy, samples = Policy(device, inputs.HIDDEN), minibatch(batch, device)
    observations, actions, _, _ = samples

    def gradient() -> None:
        policy.zero_grad()
        _, outputs = policy.act({"observations": observations, "taken_actions": actions}, role="policy")
        ppo_loss(outputs["log_prob"], policy.get_entropy(role="policy"), samples).backward()
        wait(device)

    gradient()
    return Built(gradient, norms(policy.net, policy.log_std_parameter))

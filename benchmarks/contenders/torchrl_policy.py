"""TorchRL's probabilistic actor over tensor dictionaries."""

from __future__ import annotations

import torch
from tensordict import TensorDict
from tensordict.nn import AddStateIndependentNormalScale, TensorDictModule
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules import IndependentNormal, ProbabilisticActor

from benchmarks import inputs
from benchmarks.contenders.with_torch import hardware, load, mlp, wait
from benchmarks.worker import Built

__all__ = ["act", "hardware"]


def act(device: str, batch: int, resident: bool, hidden: tuple[int, ...] = inputs.HIDDEN) -> Built:
    layers, scale = mlp(tuple(hidden)), AddStateIndependentNormalScale(inputs.ACTIONS, scale_mapping="exp")
    load(layers, inputs.weights(tuple(hidden)), scale.state_independent_scale)
    network = TensorDictModule(torch.nn.Sequential(layers, scale), ["observation"], ["loc", "scale"])
    actor = ProbabilisticActor(
        network, in_keys=["loc", "scale"], distribution_class=IndependentNormal, return_log_prob=True
    ).to(device)
    observations = inputs.observations(batch)

    @torch.no_grad()
    def choose(observations: torch.Tensor) -> TensorDict:
        return actor(TensorDict({"observation": observations}, observations.shape[:1]))

    # The context stays open for the whole process, so that entering it is not measured.
    set_exploration_type(ExplorationType.RANDOM).__enter__()
    check = choose(torch.from_numpy(observations).to(device))["loc"][0]
    if resident:
        held = torch.from_numpy(observations).to(device)
        return Built(lambda: (choose(held), wait(device)), check)
    return Built(lambda: choose(torch.from_numpy(observations).to(device))["action"].cpu().numpy(), check)

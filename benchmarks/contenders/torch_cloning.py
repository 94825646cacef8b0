"""Behavioural cloning as a plain loop in PyTorch."""

from __future__ import annotations

import torch

from benchmarks.contenders.with_torch import hardware, wait
from benchmarks.inputs import recorded
from benchmarks.worker import Built

__all__ = ["cloning", "hardware"]


def cloning(device: str, rows: int, observations: int, actions: int, width: int, batch_size: int) -> Built:
    """One epoch."""
    seen, done = (torch.from_numpy(array).to(device) for array in recorded(rows, observations, actions))
    hidden = torch.nn.Linear(observations, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh()
    mean = torch.nn.Sequential(*hidden, torch.nn.Linear(width, actions)).to(device)
    log_std = torch.nn.Parameter(torch.zeros(actions, device=device))
    optimizer = torch.optim.Adam([*mean.parameters(), log_std], lr=1e-3, fused=True)

    def epoch() -> None:
        order = torch.randperm(rows, device=device)
        for start in range(0, rows - rows % batch_size, batch_size):
            chosen = order[start : start + batch_size]
            # The constant of the density has no gradient.
            scaled = (done[chosen] - mean(seen[chosen])) * torch.exp(-log_std)
            loss = (0.5 * scaled.square().sum(-1)).mean() + log_std.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        wait(device)

    return Built(epoch, [0.0])

"""Functions shared by the contenders written in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from benchmarks import inputs

CLIP_RATIO, ENTROPY_COEFFICIENT = 0.2, 0.01


def hardware(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def mlp(hidden: tuple[int, ...]) -> torch.nn.Sequential:
    """The network from observations to the mean."""
    sizes, layers = (inputs.OBSERVATIONS, *hidden), []
    for fan_in, fan_out in zip(sizes, hidden, strict=False):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ELU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], inputs.ACTIONS))


@torch.no_grad()
def load(modules: Iterable[torch.nn.Module], weights: inputs.Weights, log_std: torch.Tensor | None = None) -> None:
    """Copy the weights into the linear layers of the modules, in order."""
    layers = [module for module in modules if isinstance(module, torch.nn.Linear)]
    for layer, (kernel, bias) in zip(layers, weights.layers, strict=True):
        layer.weight.copy_(torch.from_numpy(kernel.T))
        layer.bias.copy_(torch.from_numpy(bias))
    if log_std is not None:
        log_std.copy_(torch.from_numpy(weights.log_std).reshape(log_std.shape))


def ppo_loss(log_prob: torch.Tensor, entropy: torch.Tensor, batch: list[torch.Tensor]) -> torch.Tensor:
    """PPO's clipped loss with its entropy bonus."""
    _, _, old_log_prob, advantages = batch
    ratio = torch.exp(log_prob - old_log_prob)
    surrogate = torch.min(advantages * ratio, advantages * torch.clip(ratio, 1.0 - CLIP_RATIO, 1.0 + CLIP_RATIO))
    return -surrogate.mean() - ENTROPY_COEFFICIENT * entropy.mean()


def minibatch(batch: int, device: str) -> list[torch.Tensor]:
    return [torch.from_numpy(array).to(device) for array in inputs.minibatch(batch)]


def norms(modules: Iterable[torch.nn.Module], log_std: torch.Tensor) -> list[float]:
    """The norm of each gradient, layer by layer, which has to be equal for all contenders."""
    layers = [module for module in modules if isinstance(module, torch.nn.Linear)]
    tensors = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    return [float(tensor.grad.norm()) for tensor in (*tensors, log_std)]


def wait(device: str) -> None:
    """Block until the device is idle."""
    if device == "cuda":
        torch.cuda.synchronize()

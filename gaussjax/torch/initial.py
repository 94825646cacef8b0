"""The parameters that a key leads to: those that Flax draws from the same key."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from gaussjax.core.choices import choose
from gaussjax.networks.recurrent.cells import gate_biases, longest
from gaussjax.random import threefry
from gaussjax.torch import random
from gaussjax.torch.convert import Leaf, leaves
from gaussjax.torch.layers import Head
from gaussjax.torch.recurrent import RecurrentLayers

# How each initialiser of the kernels draws: gain of the variance, fan, and shape of the distribution.
_SCALINGS = {
    "lecun_normal": (1.0, "in", "normal"),
    "he_normal": (2.0, "in", "normal"),
    "xavier_uniform": (1.0, "average", "uniform"),
    "orthogonal": (1.0, "", "orthogonal"),
}


def parameters(module: nn.Module, key: torch.Tensor) -> dict[str, torch.Tensor]:
    """Initial parameters of a module made by `gaussjax.torch.networks.make`. The key is consumed."""
    found = list(leaves(module))
    settings = _settings(module, ())
    return {leaf.torch: _start(leaf, settings, key).contiguous() for leaf in found}


def _settings(module: nn.Module, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    """The description that holds at each path: the nearest one above a parameter counts."""
    settings = {}
    if hasattr(module, "described"):
        settings[path] = module.described
    for name, child in module.named_children():
        settings |= _settings(child, (*path, name))
    return settings


def _start(leaf: Leaf, settings: dict[tuple[str, ...], Any], key: torch.Tensor) -> torch.Tensor:
    place = tuple(leaf.torch.split("."))
    above = [settings[place[:n]] for n in range(len(place), -1, -1) if place[:n] in settings]
    shape = tuple(leaf.to_flax(torch.empty(leaf.shape, device="meta")).shape)
    zeros, name = torch.zeros(shape, dtype=torch.float32, device=key.device), leaf.flax[-1]
    key = fold(key, (*leaf.flax[:-1], leaf.index + 1))
    if name == "scale":
        return leaf.to_torch(zeros + 1.0)
    if isinstance(leaf.owner, Head):
        head = leaf.owner.described
        return zeros + head.start() if name == "log_std" else zeros
    if name == "kernel_hidden":
        keys = random.split(key, shape[1] // shape[0])
        return leaf.to_torch(torch.cat([_draw(k, (shape[0], shape[0]), "orthogonal", 1.0) for k in keys], 1))
    described = above[0]
    if name in ("bias_input", "bias") and isinstance(leaf.owner, RecurrentLayers):
        return _gate_biases(described, key, zeros)
    if name != "kernel" and name != "kernel_input":
        if leaf.flax[-2:] == ("log_std", "bias"):
            return zeros + described.start()
        if leaf.flax[-2:] == ("update", "bias"):
            return _gate_biases(described, key, zeros)
        return zeros
    if leaf.flax[-2] in ("log_std", "off_diagonal") and hasattr(described, "log_std_bounds"):
        return leaf.to_torch(zeros)
    scale = 1.0 if isinstance(leaf.owner, RecurrentLayers) or not hasattr(described, "scale") else described.scale
    if leaf.flax[-1:] == ("kernel",) and leaf.flax[-2] in ("critic_value", "value_layer"):
        scale = 1.0
    return leaf.to_torch(_draw(key, shape, described.initializer, scale))


def fold(key: torch.Tensor, path: tuple[str | int, ...]) -> torch.Tensor:
    """The key that Flax makes for a parameter by its place."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in path:
        digest.update(part.encode() if isinstance(part, str) else part.to_bytes((part.bit_length() + 7) // 8, "big"))
    return random.fold_in(key, int.from_bytes(digest.digest()[:4], "big"))


def _draw(key: torch.Tensor, shape: tuple[int, ...], initializer: str, scale: float) -> torch.Tensor:
    gain, fan, form = choose(_SCALINGS, initializer, "initializer")
    if form == "orthogonal":
        columns = math.prod(shape[:-1])
        tall = (max(shape[-1], columns), min(shape[-1], columns))
        q, r = torch.linalg.qr(random.normal(key, tall))
        q = q * torch.sign(torch.diagonal(r))
        q = q if shape[-1] > columns else q.mT
        return scale * q.reshape(shape[-1], *shape[:-1]).movedim(0, -1)
    area = math.prod(shape[:-2])
    count = shape[-2] * area if fan == "in" else (shape[-2] + shape[-1]) * area / 2.0
    variance = gain * scale**2 / max(1.0, count)
    if form == "uniform":
        return random.uniform(key, shape, minimum=-1.0) * math.sqrt(3.0 * variance)
    # A normal distribution cut at two standard deviations, and stretched to have the variance.
    end = math.erf(math.sqrt(2.0))
    inner = random.uniform(key, shape, minimum=-end, maximum=end)
    draws = threefry.quantile(inner, "float32", random.WORDS)
    limit = float(np.nextafter(np.float32(2.0), np.float32(0.0)))
    return torch.clip(draws, -limit, limit) * (math.sqrt(variance) / 0.87962566103423978)


def _gate_biases(described: Any, key: torch.Tensor, zeros: torch.Tensor) -> torch.Tensor:
    if described.memory_steps is None:
        return zeros
    steps = random.uniform(key, (described.hidden_size,), minimum=1.0, maximum=longest(described.memory_steps))
    return gate_biases(described.cell, torch.log(steps))

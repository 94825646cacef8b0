"""Initial parameters of torch modules, with the numbers that Flax draws from the same key."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import nn

from gaussjax.core.choices import choose
from gaussjax.networks.layers import INITIALIZERS
from gaussjax.networks.recurrent.cells import gate_biases, longest
from gaussjax.random import threefry
from gaussjax.torch import random
from gaussjax.torch.convert import Leaf, leaves
from gaussjax.torch.layers import Start


def parameters(module: nn.Module, key: torch.Tensor) -> dict[str, torch.Tensor]:
    """Draws the initial parameters of a module that `gaussjax.torch.networks.make` built. The key is consumed."""
    return {leaf.torch: _start(leaf, key).contiguous() for leaf in leaves(module)}


def _start(leaf: Leaf, key: torch.Tensor) -> torch.Tensor:
    """Draws the initial numbers of one parameter in Flax's layout, and converts them to torch's layout."""
    name = leaf.torch.rpartition(".")[2]
    form, value = getattr(leaf.owner, "starts", {}).get(name, Start())
    shape = tuple(leaf.to_flax(torch.empty(leaf.shape, device="meta")).shape)
    key = fold(key, (*leaf.flax[:-1], leaf.index + 1))
    if form == "constant" or (form == "gates" and value.memory_steps is None):
        constant = 0.0 if form == "gates" else value
        drawn = torch.full(shape, constant, dtype=torch.float32, device=key.device)
    elif form == "gates":
        steps = random.uniform(key, (value.hidden_size,), minimum=1.0, maximum=longest(value.memory_steps))
        drawn = gate_biases(value.cell, torch.log(steps))
    elif form == "orthogonal_gates":
        keys = random.split(key, shape[1] // shape[0])
        drawn = torch.cat([_draw(k, (shape[0], shape[0]), "orthogonal", 1.0) for k in keys], 1)
    else:
        drawn = _draw(key, shape, form, value)
    return leaf.to_torch(drawn)


def fold(key: torch.Tensor, path: tuple[str | int, ...]) -> torch.Tensor:
    """Returns the key that Flax derives from this key for the parameter at this path."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in path:
        digest.update(part.encode() if isinstance(part, str) else part.to_bytes((part.bit_length() + 7) // 8, "big"))
    return random.fold_in(key, int.from_bytes(digest.digest()[:4], "big"))


def _draw(key: torch.Tensor, shape: tuple[int, ...], initializer: str, scale: float) -> torch.Tensor:
    if initializer == "orthogonal":
        columns = math.prod(shape[:-1])
        tall = (max(shape[-1], columns), min(shape[-1], columns))
        # In double precision, because the digits that float32 leaves depend on the processor and on LAPACK.
        q, r = torch.linalg.qr(random.normal(key, tall).double())
        q = q * torch.sign(torch.diagonal(r))
        q = q if shape[-1] > columns else q.mT
        return (scale * q.reshape(shape[-1], *shape[:-1]).movedim(0, -1)).float()
    gain, fan, distribution = choose(INITIALIZERS, initializer, "initializer")
    area = math.prod(shape[:-2])
    count = shape[-2] * area if fan == "fan_in" else (shape[-2] + shape[-1]) * area / 2.0
    variance = gain * scale**2 / max(1.0, count)
    if distribution == "uniform":
        return random.uniform(key, shape, minimum=-1.0) * math.sqrt(3.0 * variance)
    # Flax's truncated_normal: a normal distribution, cut off at two standard deviations and scaled to the variance.
    end = math.erf(math.sqrt(2.0))
    inner = random.uniform(key, shape, minimum=-end, maximum=end)
    draws = threefry.quantile(inner, "float32", random.WORDS)
    limit = float(np.nextafter(np.float32(2.0), np.float32(0.0)))
    return torch.clip(draws, -limit, limit) * (math.sqrt(variance) / 0.87962566103423978)

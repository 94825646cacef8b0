"""Weights of gaussjax's networks in torch modules: an independent reading of their layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

MODULES = {
    "RNN": torch.nn.RNN,
    "GRU": torch.nn.GRU,
    "LSTM": torch.nn.LSTM,
}


def tensor(array: Any) -> torch.Tensor:
    return torch.tensor(np.array(array))


def linear(params: Any) -> torch.nn.Linear:
    """A dense layer: the kernel is the transpose of torch's weight."""
    rows, columns = params["kernel"].shape
    module = torch.nn.Linear(rows, columns)
    module.load_state_dict({"weight": tensor(params["kernel"].T), "bias": tensor(params["bias"])})
    return module


def convolution(params: Any, stride: int) -> torch.nn.Conv2d:
    """A convolution: (height, width, in, out) becomes (out, in, height, width)."""
    height, width, channels, out = params["kernel"].shape
    module = torch.nn.Conv2d(channels, out, (height, width), stride)
    weight = tensor(np.transpose(params["kernel"], (3, 2, 0, 1)))
    module.load_state_dict({"weight": weight, "bias": tensor(params["bias"])})
    return module


def recurrent(kind: str, memory: Any, **options: Any) -> torch.nn.Module:
    """Recurrent layers: the kernels are the transposes of torch's weights, the gates in the same order."""
    layers = len(memory)
    module = MODULES[kind](
        memory["layer_0"]["kernel_input"].shape[0],
        memory["layer_0"]["kernel_hidden"].shape[0],
        num_layers=layers,
        **options,
    )
    state = {}
    for i in range(layers):
        layer = memory[f"layer_{i}"]
        state[f"weight_ih_l{i}"] = tensor(layer["kernel_input"].T)
        state[f"weight_hh_l{i}"] = tensor(layer["kernel_hidden"].T)
        state[f"bias_ih_l{i}"] = tensor(layer["bias_input"])
        state[f"bias_hh_l{i}"] = tensor(layer["bias_hidden"])
    module.load_state_dict(state)
    return module

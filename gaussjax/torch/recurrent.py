"""Recurrent layers in torch, with the formulas of `gaussjax.networks.recurrent.cells`."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from gaussjax.networks.recurrent.cells import CELLS, Weights, output, step
from gaussjax.networks.recurrent.layers import RecurrentLayers as Described
from gaussjax.torch.layers import Dense, Start

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Gates(nn.Module):
    def __init__(self, described: Described, features: int) -> None:
        super().__init__()
        options = (features, described.hidden_size, described.dtype, Start(described.initializer, 1.0))
        self.update = Dense(*options, Start("gates", described))
        self.candidate = Dense(*options)


class RecurrentLayers(nn.Module):
    """Recurrent layers with the parameter names of `torch.nn.LSTM`.

    Inputs with the carry's batch shape are one step; an additional leading axis is the time axis.
    """

    def __init__(self, described: Described, features: int) -> None:
        super().__init__()
        self.described, self.features = described, features
        hidden, self.starts = described.hidden_size, {}
        starts = (Start(described.initializer, 1.0), Start("orthogonal_gates"), Start("gates", described), Start())
        for i in range(described.num_layers):
            if described.cell == "mingru":
                self.add_module(f"layer_{i}", _Gates(described, features))
            else:
                width = CELLS[described.cell].gates * hidden
                self.starts |= {f"{name}_l{i}": start for name, start in zip(NAMES, starts, strict=True)}
                for name, shape in zip(NAMES, ((width, features), (width, hidden), (width,), (width,)), strict=True):
                    self.register_parameter(f"{name}_l{i}", nn.Parameter(torch.zeros(shape)))
            features = hidden

    def forward(self, x: torch.Tensor, carry: Any, resets: torch.Tensor | None = None) -> tuple[torch.Tensor, Any]:
        """Returns the last layer's output at each step, and the carry after the last step."""
        sequence = x.ndim > output(carry[0]).ndim
        states = []
        for i, before in enumerate(carry):
            kernel = getattr(self, f"layer_{i}").update.weight if self._parallel else getattr(self, f"weight_ih_l{i}")
            old: Any = output(before)
            into = functools.reduce(torch.promote_types, (x.dtype, kernel.dtype, old.dtype), torch.float32)
            state, outputs = _cast(before, into), []
            for t, observed in enumerate(x.unbind(0) if sequence else (x,)):
                reset = resets if resets is None or not sequence else resets[t]
                state = self._step(i, state, observed, reset, into)
                outputs.append(output(state))
            if sequence:
                x = torch.stack(outputs) if outputs else torch.zeros((0, *old.shape), dtype=into, device=x.device)
            else:
                x = outputs[0]
            states.append(_cast(state, old.dtype))
        return x, tuple(states)

    @property
    def _parallel(self) -> bool:
        return self.described.cell == "mingru"

    def _step(self, i: int, state: Any, x: Any, resets: Any, into: torch.dtype) -> Any:
        if self._parallel:
            layer = getattr(self, f"layer_{i}")
            gate, candidate = layer.update(x).to(into), layer.candidate(x).to(into)
            decay = torch.sigmoid(-gate)
            decay = decay if resets is None else torch.where(resets[..., None], torch.zeros_like(decay), decay)
            return decay * state + torch.sigmoid(gate) * candidate
        kernels = [getattr(self, f"{name}_l{i}").mT for name in NAMES[:2]]
        weights = Weights(*kernels, *(getattr(self, f"{name}_l{i}") for name in NAMES[2:]))
        dtype = getattr(torch, self.described.dtype) if self.described.dtype else into
        return step(CELLS[self.described.cell], weights, state, x, resets, dtype)


def _cast(state: Any, dtype: torch.dtype) -> Any:
    """Converts the state of a layer, one tensor or a tuple of two, to this dtype."""
    return type(state)(*(part.to(dtype) for part in state)) if isinstance(state, tuple) else state.to(dtype)

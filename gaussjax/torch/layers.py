"""Activations, dense layers, convolutions, recurrent layers and the head in torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from gaussjax.core.choices import choose
from gaussjax.distributions.multivariate import num_pairs
from gaussjax.networks.expressions import apply_output_activation, parse_output_activation
from gaussjax.networks.heads import STD_KINDS, GaussianHead
from gaussjax.networks.layers import Activation, refuse_function
from gaussjax.networks.layers import Layers as Described
from gaussjax.networks.recurrent.cells import CELLS, Weights, clear, guarded_sequence, output, step
from gaussjax.networks.recurrent.layers import RecurrentLayers as DescribedRecurrence

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "celu": F.celu,
    "elu": F.elu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_exact": F.gelu,
    "hard_tanh": F.hardtanh,
    "identity": lambda x: x,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": F.softsign,
    "sqrt": torch.sqrt,
    "tanh": torch.tanh,
}


def activation(chosen: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the torch function of a named activation; None means the identity.

    Raises:
        TypeError: The activation is a JAX function that is not in `gaussjax.networks.ACTIVATIONS`.
    """
    name = refuse_function(chosen)
    return choose(ACTIVATIONS, "identity" if name is None else name, "activation")


def cast(dtype: str | None, *tensors: torch.Tensor | None) -> list[Any]:
    """Converts tensors to the named dtype; for None, to the dtype to which they promote."""
    wanted = getattr(torch, dtype) if dtype else None
    for tensor in tensors:
        if not dtype and tensor is not None:
            wanted = tensor.dtype if wanted is None else torch.promote_types(wanted, tensor.dtype)
    return [None if tensor is None else tensor.to(wanted) for tensor in tensors]


class Start(NamedTuple):
    """The rule for the initial numbers of one parameter: a constant, or a distribution to draw from.

    Attributes:
        form: "constant", "gates", "orthogonal_gates" or the name of a kernel initialiser.
        value: The constant; for "gates" the description of the recurrent layers; for a kernel its scale.
    """

    form: str = "constant"
    value: Any = 0.0


class Dense(nn.Linear):
    """A dense layer for inputs of any floating dtype.

    Here and in the modules below, `starts` has the `Start` of parameters by name; other parameters start at zero.
    """

    def __init__(
        self,
        features: int,
        width: int,
        dtype: str | None = None,
        kernel: Start | None = None,
        bias: Start | None = None,
    ) -> None:
        super().__init__(features, width)
        self.compute, self.starts = dtype, {"weight": kernel or Start(), "bias": bias or Start()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the outputs in the layer's dtype, or without one in the dtype to which the operands promote."""
        weight, bias = self.weight, self.bias
        if self.compute is None and x.dtype == weight.dtype == bias.dtype:
            return F.linear(x, weight, bias)
        return F.linear(*cast(self.compute, x, weight, bias))


class Norm(nn.LayerNorm):
    """Layer normalisation with Flax's epsilon, and with statistics in float32 or wider."""

    def __init__(self, width: int, dtype: str | None = None) -> None:
        super().__init__(width, eps=1e-6)
        self.compute, self.starts = dtype, {"weight": Start(value=1.0)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the normalised features."""
        to = cast(self.compute, x, self.weight)[0].dtype
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(to)


class Conv(nn.Conv2d):
    """A convolution of images `(n, channels, height, width)` with Flax's padding."""

    def __init__(
        self, channels: int, features: int, kernel: int, stride: int, padding: str, dtype: str | None, start: Start
    ) -> None:
        super().__init__(channels, features, kernel, stride)
        self.same, self.compute, self.starts = padding == "SAME", dtype, {"weight": start}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features `(n, features, height, width)`."""
        images, weight, bias = cast(self.compute, images, _with_contiguous_gradient(self.weight), self.bias)
        if self.same:
            kernel, stride = self.kernel_size[0], self.stride[0]
            pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in images.shape[-2:]]
            images = F.pad(images, (pads[1] // 2, -(-pads[1] // 2), pads[0] // 2, -(-pads[0] // 2)))
        return F.conv2d(images, weight, bias, self.stride)


class Layers(nn.Module):
    """Dense layers with norms and activations, the counterpart of `gaussjax.networks.layers.Layers`."""

    def __init__(self, described: Described, features: int) -> None:
        super().__init__()
        normalised, self.activations = described.normalised(), []
        start = Start(described.initializer, described.scale)
        for i, (width, name) in enumerate(described.widths_and_activations()):
            self.add_module(f"dense_{i}", Dense(features, width, described.dtype, start))
            if normalised:
                self.add_module(f"norm_{i}", Norm(width, described.dtype))
                self.activations.append(ACTIVATIONS["identity"])
            self.activations.append(activation(name))
            features = width
        self.width = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the output of the last layer."""
        parts: Any = self._modules.values()
        for part, activate in zip(parts, self.activations, strict=True):
            x = activate(part(x))
        return x


RECURRENT_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Gates(nn.Module):
    def __init__(self, described: DescribedRecurrence, features: int) -> None:
        super().__init__()
        options = (features, described.hidden_size, described.dtype, Start(described.initializer, 1.0))
        self.update = Dense(*options, Start("gates", described))
        self.candidate = Dense(*options)


class RecurrentLayers(nn.Module):
    """Recurrent layers with the parameter names of `torch.nn.LSTM`.

    Inputs with the carry's batch shape are one step; an additional leading axis is the time axis.
    """

    def __init__(self, described: DescribedRecurrence, features: int) -> None:
        super().__init__()
        self.described, self.features = described, features
        hidden, self.starts = described.hidden_size, {}
        starts = (Start(described.initializer, 1.0), Start("orthogonal_gates"), Start("gates", described), Start())
        for i in range(described.num_layers):
            if described.cell == "mingru":
                self.add_module(f"layer_{i}", _Gates(described, features))
            else:
                width = CELLS[described.cell].gates * hidden
                self.starts |= {f"{name}_l{i}": start for name, start in zip(RECURRENT_NAMES, starts, strict=True)}
                shapes = (width, features), (width, hidden), (width,), (width,)
                for name, shape in zip(RECURRENT_NAMES, shapes, strict=True):
                    self.register_parameter(f"{name}_l{i}", nn.Parameter(torch.zeros(shape)))
            features = hidden

    def forward(self, x: torch.Tensor, carry: Any, resets: torch.Tensor | None = None) -> tuple[torch.Tensor, Any]:
        """Returns the last layer's output at each step, and the carry after the last step."""
        return guarded_sequence(lambda x, carry: self._run(x, carry, resets), x, carry, resets)

    def _run(self, x: torch.Tensor, carry: Any, resets: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        sequence = x.ndim > output(carry[0]).ndim
        states = []
        for i, before in enumerate(carry):
            advance, kernel = self._cell(i)
            old: Any = output(before)
            into = functools.reduce(torch.promote_types, (x.dtype, kernel.dtype, old.dtype), torch.float32)
            state, outputs = _cast_state(before, into), []
            for t, observed in enumerate(x.unbind(0) if sequence else (x,)):
                reset: Any = resets if resets is None or not sequence else resets[t]
                state = advance(clear(state, reset), observed, into)
                outputs.append(output(state))
            if sequence:
                x = torch.stack(outputs) if outputs else torch.zeros((0, *old.shape), dtype=into, device=x.device)
            else:
                x = outputs[0]
            states.append(_cast_state(state, old.dtype))
        return x, tuple(states)

    def _cell(self, i: int) -> tuple[Callable[..., Any], torch.Tensor]:
        """Returns the function `(state, x, dtype) -> state` of a layer's cell, and the layer's first kernel."""
        if self.described.cell == "mingru":
            layer = getattr(self, f"layer_{i}")

            def advance(state: Any, x: torch.Tensor, into: torch.dtype) -> Any:
                gate, candidate = layer.update(x).to(into), layer.candidate(x).to(into)
                return torch.sigmoid(-gate) * state + torch.sigmoid(gate) * candidate

            return advance, layer.update.weight
        cell = CELLS[self.described.cell]
        parameters: list[Any] = [getattr(self, f"{name}_l{i}") for name in RECURRENT_NAMES]
        kernels: Any = [_with_contiguous_gradient(kernel).mT for kernel in parameters[:2]]
        weights = Weights(*kernels, *parameters[2:])

        def advance_cell(state: Any, x: Any, into: torch.dtype) -> Any:
            dtype = getattr(torch, self.described.dtype) if self.described.dtype else into
            return step(cell, weights, state, x, None, dtype)

        return advance_cell, parameters[0]


def _with_contiguous_gradient(weight: torch.Tensor) -> torch.Tensor:
    """Returns the weight. Its gradient is contiguous even if an operation on a transposed tensor computes it."""
    return weight.reshape(-1).reshape(weight.shape)


def _cast_state(state: Any, dtype: torch.dtype) -> Any:
    """Converts the state of a layer, one tensor or a tuple of two, to this dtype."""
    return type(state)(*(part.to(dtype) for part in state)) if isinstance(state, tuple) else state.to(dtype)


class Head(nn.Module):
    """The output layer of policy networks, the counterpart of `gaussjax.networks.GaussianHead`."""

    def __init__(self, described: GaussianHead, features: int) -> None:
        super().__init__()
        self.described = described
        choose(dict.fromkeys(STD_KINDS), described.std, "std")
        actions = described.num_actions or 0
        self.output_activation = parse_output_activation(refuse_function(described.output_activation))
        self.mean = Dense(features, actions, kernel=Start(described.initializer, described.scale))
        self.starts = {"log_std": Start(value=described.start())}
        shapes: dict[str, tuple[int, ...]] = {"log_std": (actions,)} if described.std != "fixed" else {}
        if described.std == "gsde":
            shapes["log_std"] = described.gsde_shape(features)
        if described.off_diagonal and actions > 1:
            shapes["off_diagonal"] = (num_pairs(actions),)
        for name, shape in shapes.items():
            if described.std == "state":
                self._add(name, Dense(features, shape[-1], bias=self.starts.get(name)))
            else:
                self._add(name, torch.zeros(shape))

    def _add(self, name: str, part: Any) -> None:
        if isinstance(part, nn.Module):
            self.add_module(name, part)
        else:
            self.register_parameter(name, nn.Parameter(part))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Returns the mean `(…, act)`, log_std and a dict of further outputs."""
        if features.dtype != torch.float32:
            features = features.to(torch.promote_types(features.dtype, torch.float32))
        mean = apply_output_activation(self.output_activation, self.mean(features), ACTIVATIONS)
        log_std = self._made("log_std", features)
        if log_std is None:
            log_std = mean.new_full((mean.shape[-1],), self.described.start())
        if self.described.log_std_bounds is not None:
            log_std = self.described.bounded(log_std, torch.tanh)
        if self.described.std_activation is not None:
            log_std = self.described.activated(log_std, ACTIVATIONS)
        outputs: dict[str, Any] = {}
        if self.described.std == "gsde":
            log_std, outputs["gsde"] = self.described.explored(features, log_std)
        if not self.described.off_diagonal:
            return mean, log_std, outputs
        pairs = self._made("off_diagonal", features)
        return mean, log_std, {**outputs, "off_diagonal": mean.new_zeros(0) if pairs is None else pairs}

    def _made(self, name: str, features: torch.Tensor) -> torch.Tensor | None:
        # Without `getattr`, which formats an error for each name that a module does not have.
        layer = self._modules.get(name)
        return self._parameters.get(name) if layer is None else layer(features)

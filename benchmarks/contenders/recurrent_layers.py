"""Recurrent layers of gaussjax, Flax and torch on sequences with resets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.worker import Built


def hardware(device: str) -> str:
    import jax

    return jax.devices("gpu" if device == "cuda" else device)[0].device_kind


def data(sequences: int, steps: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations `(T, N, F)` and resets `(T, N)`; 2% of the steps start an episode."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((steps, sequences, features)).astype(np.float32)
    return x, generator.random((steps, sequences)) < 0.02


def recurrent(
    device: str, cell: str, sequences: int, steps: int, features: int, hidden: int, library: str = "gaussjax"
) -> Built:
    """Gradient of the mean square output with respect to the layer's parameters."""
    x, resets = data(sequences, steps, features)
    make = {"gaussjax": _gaussjax, "autodiff": _autodiff, "flax": _flax, "torch": _torch}[library]
    # Each library initialises its own parameters, so there is nothing to compare here; tests compare the layers.
    return Built(make(device, cell, hidden, x, resets), [0.0])


def _gaussjax(device: str, cell: str, hidden: int, x: Any, resets: Any, autodiff: bool = False) -> Callable[[], Any]:
    from gaussjax.networks.recurrent.layers import RecurrentLayers

    module = RecurrentLayers(cell, hidden, fast_backward=not autodiff)
    carry = module.initial_carry(x.shape[1:2])
    return _gradient(lambda params, x, resets: module.apply(params, x, carry, resets)[0], module, x, (carry,), resets)


def _autodiff(device: str, cell: str, hidden: int, x: Any, resets: Any) -> Callable[[], Any]:
    return _gaussjax(device, cell, hidden, x, resets, autodiff=True)


def _flax(device: str, cell: str, hidden: int, x: Any, resets: Any) -> Callable[[], Any]:
    """A Flax cell under nn.scan whose carry is masked by the resets, as a user would write it."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    cells = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}

    class Scan(nn.Module):
        @nn.compact
        def __call__(self, x: Any, resets: Any) -> Any:
            unit = cells[cell](hidden)

            def body(unit: Any, carry: Any, now: Any) -> Any:
                features, reset = now
                return unit(jax.tree.map(lambda state: jnp.where(reset[:, None], 0.0, state), carry), features)

            carry = unit.initialize_carry(jax.random.key(0), x.shape[1:])
            return nn.scan(body, variable_broadcast="params", split_rngs={"params": False})(unit, carry, (x, resets))[1]

    module = Scan()
    return _gradient(module.apply, module, x, (resets[:1],), resets)


def _gradient(apply: Callable[..., Any], module: Any, x: Any, more: tuple[Any, ...], resets: Any) -> Callable[[], Any]:
    import jax
    import jax.numpy as jnp

    params = module.init(jax.random.key(0), x[:1], *more)
    gradient = jax.jit(jax.grad(lambda params, x, resets: jnp.mean(apply(params, x, resets) ** 2)))
    x, resets = jnp.asarray(x), jnp.asarray(resets)
    return lambda: jax.block_until_ready(gradient(params, x, resets))


def _torch(device: str, cell: str, hidden: int, x: Any, resets: Any) -> Callable[[], Any]:
    """torch.nn on the pieces between the ends of episodes, with zeroed states after each end."""
    import torch

    steps, sequences, features = x.shape
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell]
    module = kind(features, hidden, batch_first=True).to(device)
    batch = torch.from_numpy(np.swapaxes(x, 0, 1).copy()).to(device)
    ends = torch.from_numpy(np.concatenate([resets[1:], np.zeros((1, sequences), bool)]).T.copy()).to(device)

    def run() -> None:
        module.zero_grad()
        state = tuple(torch.zeros(1, sequences, hidden, device=device) for _ in range(2 if cell == "lstm" else 1))
        cuts = [0, *(torch.nonzero(ends[:, :-1].any(0)).flatten() + 1).tolist(), steps]
        outputs = []
        for start, stop in itertools.pairwise(cuts):
            output, state = module(batch[:, start:stop], state if cell == "lstm" else state[0])
            keep = (~ends[:, stop - 1]).reshape(1, -1, 1)
            state = tuple(part * keep for part in (state if cell == "lstm" else (state,)))
            outputs.append(output)
        torch.cat(outputs, 1).square().mean().backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return run

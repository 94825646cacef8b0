"""Recurrent layers, forward and backward with 2% resets: gaussjax beside torch and flax.

    python benchmarks/recurrent.py [lstm|gru|rnn|linear] [repeats]

All contenders of a table run in turn in one process; a row gives the median, the minimum and the
median of the ratios within a turn. torch is optional.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.networks.memory import Memory

SIZES = ((64, 64, 32, 64), (256, 128, 64, 128))  # sequences, steps, inputs, hidden
LENGTHS = (64, 256, 1024, 4096)


def data(sequences: int, steps: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((steps, sequences, inputs)).astype(np.float32)
    return x, generator.random((steps, sequences)) < 0.02


def memory(cell: str, hidden: int, x: np.ndarray, resets: np.ndarray, autodiff: bool = False) -> Callable[[], Any]:
    module = Memory(cell, hidden, autodiff=autodiff)
    carry = module.initial_carry(x.shape[1:2])
    params = module.init(jax.random.key(0), x[:1], carry)

    @jax.jit
    def gradient(params: Any, x: Any, resets: Any) -> Any:
        return jax.grad(lambda params: jnp.mean(module.apply(params, x, carry, resets)[0] ** 2))(params)

    x, resets = jnp.asarray(x), jnp.asarray(resets)
    return lambda: jax.block_until_ready(gradient(params, x, resets))


def flax_scan(cell: str, hidden: int, x: np.ndarray, resets: np.ndarray) -> Callable[[], Any]:
    """What a user writes with flax alone: a cell under nn.scan, the carry masked by the resets."""
    cells = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell, "rnn": nn.SimpleCell}

    class Scan(nn.Module):
        @nn.compact
        def __call__(self, x: Any, resets: Any) -> Any:
            cell_ = cells[cell](hidden)

            def body(module: Any, carry: Any, inputs: Any) -> Any:
                features, reset = inputs
                return module(jax.tree.map(lambda s: jnp.where(reset[:, None], 0.0, s), carry), features)

            carry = cell_.initialize_carry(jax.random.key(0), x.shape[1:])
            scan = nn.scan(body, variable_broadcast="params", split_rngs={"params": False})
            return scan(cell_, carry, (x, resets))[1]

    module = Scan()
    x, resets = jnp.asarray(x), jnp.asarray(resets)
    params = module.init(jax.random.key(0), x, resets)
    gradient = jax.jit(lambda p, x, r: jax.grad(lambda p: jnp.mean(module.apply(p, x, r) ** 2))(p))
    return lambda: jax.block_until_ready(gradient(params, x, resets))


def torch_split(cell: str, hidden: int, x: np.ndarray, resets: np.ndarray) -> Callable[[], Any]:
    """torch.nn on the pieces between the steps at which any episode ended, the states zeroed there."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    steps, sequences, inputs = x.shape
    module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[cell](inputs, hidden, batch_first=True)
    batch = torch.tensor(np.swapaxes(x, 0, 1).copy())
    ends = torch.tensor(np.concatenate([resets[1:], np.zeros((1, sequences), bool)]).T.copy())

    def run() -> None:
        module.zero_grad()
        state = tuple(torch.zeros(1, sequences, hidden) for _ in range(2 if cell == "lstm" else 1))
        cuts = [0, *(torch.nonzero(ends[:, :-1].any(0)).flatten() + 1).tolist(), steps]
        outputs = []
        for start, stop in itertools.pairwise(cuts):
            output, state = module(batch[:, start:stop], state if cell == "lstm" else state[0])
            keep = (~ends[:, stop - 1]).reshape(1, -1, 1)
            state = tuple(part * keep for part in (state if cell == "lstm" else (state,)))
            outputs.append(output)
        torch.cat(outputs, 1).square().mean().backward()

    return run


def race(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def report(times: dict[str, list[float]], ours: str) -> None:
    for name, values in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[ours], values, strict=True))
        least = min(times[ours]) / min(values)
        print(
            f"  {name:24s} median {statistics.median(values):9.2f} ms   least {min(values):9.2f} ms"
            f"   gaussjax / it: {ratio:5.2f} (of the least {least:5.2f})"
        )


def compare(cell: str, repeats: int) -> None:
    for sequences, steps, inputs, hidden in SIZES:
        print(f"{cell}: {sequences} sequences x {steps} steps, in {inputs}, hidden {hidden}")
        x, resets = data(sequences, steps, inputs)
        contenders = {
            "gaussjax": memory(cell, hidden, x, resets),
            "gaussjax, autodiff": memory(cell, hidden, x, resets, autodiff=True),
            "flax scan": flax_scan(cell, hidden, x, resets),
        }
        try:
            contenders["torch, split at resets"] = torch_split(cell, hidden, x, resets)
        except ImportError:
            print("  torch is not installed")
        report(race(contenders, repeats if steps == 64 else max(3, repeats // 4)), "gaussjax")


def linear(repeats: int) -> None:
    """Time per step by the length of one sequence: the linear recurrence falls, the LSTM does not."""
    for sequences in (1, 4):
        print(f"time per step, {sequences} sequence(s), in 32, hidden 64, forward and backward, microseconds")
        for steps in LENGTHS:
            x, resets = data(sequences, steps, 32)
            contenders = {cell: memory(cell, 64, x, resets) for cell in ("mingru", "lstm")}
            times = race(contenders, max(5, repeats // 3))
            cells = "   ".join(
                f"{cell} {1e3 * statistics.median(t) / steps:8.2f} (least {1e3 * min(t) / steps:8.2f})"
                for cell, t in times.items()
            )
            print(f"  T = {steps:5d}   {cells}")


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "lstm"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    print(f"{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores")
    if chosen == "linear":
        linear(count)
    else:
        compare(chosen, count)

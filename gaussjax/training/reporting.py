"""Metrics of a training that leave its compiled program while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_batching import custom_vmap

from gaussjax.core.compiled import anywhere, count
from gaussjax.training.algorithm import Algorithm
from gaussjax.training.metrics import without_empty_means


def reporting(algorithm: Algorithm, show: Callable[[Mapping[str, float]], Any], *, every: int = 1) -> Algorithm:
    """A training loop that passes its metrics to a function, from inside compiled programs too.

    Inside `jax.lax.scan` the function is called while the program runs. Inside `jax.vmap` it gets the means over all
    trainings. A program with such calls is not kept in JAX's compilation cache.

    Args:
        algorithm: A loop of PPO, SAC or cloning.
        show: Function of a dict of numbers, with NaN for means over nothing. `gaussjax.cli.progress.bar` makes one for
            the terminal.
        every: Number of steps of the loop between two calls.

    Returns:
        A loop with the same states and metrics.

    Raises:
        TypeError: `every` is not an integer.
        ValueError: `every` is below 1.

    Example:
        >>> from gaussjax import envs
        >>> from gaussjax.training import ppo
        >>> config = ppo.Config(num_envs=2, num_steps=8, batch_size=8, num_epochs=1, hidden_sizes=(8,))
        >>> loop = ppo.make(envs.make_functional("Pendulum-v1"), config)
        >>> loop = reporting(loop, lambda row: print(row["step"], row["episodes"]), every=2)
        >>> states, metrics = jax.lax.scan(lambda state, _: loop.step(state), loop.init(jax.random.key(0)), length=4)
        32 0.0
        64 0.0
    """
    count(every, "every")

    def receive(metrics: dict[str, Any]) -> None:
        means = {name: np.mean(values).item() for name, values in metrics.items()}
        means["step"] = int(means["step"])
        show(without_empty_means(means))

    @custom_vmap
    def send(metrics: dict[str, Any]) -> tuple[()]:
        jax.debug.callback(receive, metrics)
        return ()

    # One call for all trainings; without this rule there would be one for each.
    @send.def_vmap
    def _(size: int, batched: Any, metrics: dict[str, Any]) -> tuple[tuple[()], tuple[()]]:
        return send(metrics), ()

    def step(state: Any) -> tuple[Any, dict[str, Any]]:
        before = state.steps
        state, metrics = algorithm.step(state)
        # At its largest number the counter of environment steps stays.
        due = state.steps // jnp.maximum(state.steps - before, 1) % every == 0
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((due, metrics))):
            jax.lax.cond(anywhere(due), lambda: send(metrics), lambda: ())
        elif due:
            receive(metrics)
        return state, metrics

    return algorithm._replace(step=step)

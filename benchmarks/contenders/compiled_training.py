"""Functions shared by the contenders whose whole training is one compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from benchmarks.worker import Built

Programs = Callable[[], tuple[Any, Any]]
"""A factory of new, uncompiled functions `init(key) -> state` and `train(state) -> (state, metrics or None)`."""


def running(make: Programs) -> Built:
    """A call of `train` that continues from the state of the previous call."""
    init, train = (jax.jit(program) for program in make())
    state = init(jax.random.key(0))

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(train(state))

    return Built(call, [0.0])


def stated(make: Programs) -> Built:
    """The memory, in bytes, that XLA states for the compiled `train`, in place of numbers to compare."""
    init, train = (jax.jit(program) for program in make())
    stated = train.lower(jax.eval_shape(init, jax.random.key(0))).compile().memory_analysis()
    # On a CPU `peak_memory_in_bytes` leaves out most of the temporary arrays.
    arguments = stated.argument_size_in_bytes + stated.output_size_in_bytes - stated.alias_size_in_bytes
    return Built(lambda: None, [arguments + stated.temp_size_in_bytes])


def compiling(make: Programs) -> Built:
    """Tracing and compilation of both programs with empty caches."""

    def call() -> None:
        jax.clear_caches()
        init, train = (jax.jit(program) for program in make())
        key = jax.random.key(0)
        init.lower(key).compile()
        train.lower(jax.eval_shape(init, key)).compile()

    return Built(call, [0.0])

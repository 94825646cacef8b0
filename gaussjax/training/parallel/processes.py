"""Training over several processes: connection, agreement and the loss of a process."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

# Errors of the transport between processes (CPU, GPU) and of the service that watches them.
_TRANSPORT = re.compile(r"gloo|nccl|coordination|heartbeat", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<coordinator>\S+:\d+),(?P<number>\d+),(?P<index>\d+)")


def connect(text: str) -> None:
    """Join this process to the others, before the first computation.

    Args:
        text: "local" for all devices of this process alone; "auto" for a cluster that JAX detects
            (Slurm, Open MPI, Kubernetes, TPU pods); or "COORDINATOR:PORT,PROCESSES,INDEX": the address of
            process 0, the number of processes, and the index of this one.

    Raises:
        ValueError: The text has another form.
        RuntimeError: "auto" found no cluster.

    Source:
        `jax.distributed.initialize`.
    """
    if text == "local":
        return
    if text == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise RuntimeError(
                f"expected to run on a cluster that JAX knows, got none ({error}). Say "
                f"COORDINATOR:PORT,PROCESSES,INDEX, or local for the devices of this process."
            ) from error
        return
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["index"]) >= int(found["number"]):
        raise ValueError(
            f"expected local, auto or COORDINATOR:PORT,PROCESSES,INDEX such as 10.0.0.1:1234,2,0 for the first of two "
            f"processes, got {text!r}."
        )
    jax.distributed.initialize(found["coordinator"], int(found["number"]), int(found["index"]))


def disconnect() -> None:
    """Leave the other processes once all of them call this or have ended; no effect for a process alone."""
    if several():
        jax.distributed.shutdown()


def several() -> bool:
    """True if this process trains together with others."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def leads() -> bool:
    """True for the process that writes files and prints: the first one, or a process alone."""
    return not several() or jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """True if the flag is set in any process; every process has to call it."""
    return bool(total(np.array(flag, np.float32)) > 0)


def lost(error: BaseException) -> bool:
    """True if the error means that another process no longer answers.

    JAX raises `JaxRuntimeError` for a failed result and `ValueError` for a failed call.
    """
    failed = isinstance(error, (jax.errors.JaxRuntimeError, ValueError))
    return several() and failed and _TRANSPORT.search(str(error)) is not None


def total(values: np.ndarray) -> Any:
    """The sum of float32 arrays over all processes; every process has to call it."""
    if not several():
        return values
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(values, np.float32)).sum(axis=0)

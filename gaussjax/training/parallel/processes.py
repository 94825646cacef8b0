"""Training in several processes: connecting them, summing values over them, and detecting a lost one."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

# An error about a lost process names Gloo or NCCL, which connect CPUs or GPUs, or JAX's coordination service.
_TRANSPORT = re.compile(r"gloo|nccl|coordination|heartbeat", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<coordinator>\S+:\d+),(?P<number>\d+),(?P<index>\d+)")


def connect(text: str) -> None:
    """Connects this process to the others; `text` is the option --distributed. Call it before the first computation."""
    address = _ADDRESS.fullmatch(text)
    if text == "auto":
        try:
            jax.distributed.initialize()
        except ValueError as error:
            raise RuntimeError(
                f"expected a cluster that JAX detects, such as Slurm or Open MPI, got none ({error}). Use "
                f"COORDINATOR:PORT,PROCESSES,INDEX, or local for the devices of this process."
            ) from error
    elif address is not None and int(address["index"]) < int(address["number"]):
        jax.distributed.initialize(address["coordinator"], int(address["number"]), int(address["index"]))
    elif text != "local":
        raise ValueError(
            f"expected local, auto or COORDINATOR:PORT,PROCESSES,INDEX such as 10.0.0.1:1234,2,0 for the first of two "
            f"processes, got {text!r}."
        )


def several() -> bool:
    """True if the training runs in more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def leads() -> bool:
    """True in the process that writes files and prints: the first of several processes, or the only one."""
    return not several() or jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """True if the flag is set in any process; every process has to call this function."""
    return bool(total(np.array(flag, np.float32)) > 0)


def lost(error: BaseException) -> bool:
    """True if the error means that another process no longer answers."""
    # JAX reports a lost process by JaxRuntimeError when a result is read, or by ValueError when a function is called.
    failed = isinstance(error, (jax.errors.JaxRuntimeError, ValueError))
    return several() and failed and _TRANSPORT.search(str(error)) is not None


def total(values: np.ndarray) -> Any:
    """Sum of float32 arrays over all processes; every process has to call this function."""
    if not several():
        return values
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(values, np.float32)).sum(axis=0)

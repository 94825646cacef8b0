"""Several processes that train together: how they find each other and agree."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

# What carries numbers between processes on CPU and GPU, and what knows who is alive.
_TRANSPORT = re.compile(r"gloo|nccl|coordination|heartbeat", re.IGNORECASE)
_ADDRESS = re.compile(r"(?P<coordinator>\S+:\d+),(?P<number>\d+),(?P<index>\d+)")


def connect(text: str) -> None:
    """Joins this process to the others; it has to come before anything is computed.

    Args:
        text: "local" for this process alone, with all of its devices; "auto" where the cluster
            says who takes part (Slurm, Open MPI, Kubernetes, TPU pods); or
            "COORDINATOR:PORT,PROCESSES,INDEX", the address of process 0, how many there are, and
            which one this is.

    Raises:
        ValueError: The text is none of these.
        RuntimeError: "auto", and this is no cluster that JAX knows.

    Example:
        >>> connect("local")
        >>> several()
        False

    Source:
        The arguments of `jax.distributed.initialize`.
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
    """Parts from the others, once all of them call this or have come to their end; a process alone goes on.

    Example:
        >>> disconnect()
        >>> several()
        False

    Source:
        `jax.distributed.shutdown`.
    """
    if several():
        jax.distributed.shutdown()


def several() -> bool:
    """Whether this process trains together with others.

    Returns:
        False before `connect`, and for one process.

    Example:
        >>> several()
        False
    """
    return jax.distributed.is_initialized() and jax.process_count() > 1


def leads() -> bool:
    """Whether this process is the one that writes files and prints.

    Returns:
        True for the first process, and for one alone.

    Example:
        >>> leads()
        True
    """
    return not several() or jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """Whether the flag is up in any process; all of them have to ask.

    Args:
        flag: Of this process.

    Returns:
        The same in all of them.

    Example:
        >>> any_of(False)
        False
    """
    return bool(total(np.array(flag, np.float32)) > 0)


def lost(error: BaseException) -> bool:
    """Whether what was raised says that another process no longer answers.

    JAX has a type of its own for it, and `ValueError` where the call itself fails and not its result.

    Args:
        error: Out of anything that the processes compute together.

    Returns:
        False for any error of a process alone.

    Example:
        >>> lost(ValueError("expected 2 rows, got 3."))
        False
    """
    failed = isinstance(error, (jax.errors.JaxRuntimeError, ValueError))
    return several() and failed and _TRANSPORT.search(str(error)) is not None


def total(values: np.ndarray) -> Any:
    """The sum over the processes, each of which has to call it.

    Args:
        values: float32, of the same shape in all of them.

    Returns:
        The same in all of them.

    Example:
        >>> total(np.array([1.0, 2.0], np.float32)).tolist()
        [1.0, 2.0]
    """
    if not several():
        return values
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(np.asarray(values, np.float32)).sum(axis=0)

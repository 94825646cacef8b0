"""Training in several processes and on a mesh of several devices; without a mesh (None), arrays stay the same."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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

    # Under `jax.disable_jit` JAX moves nothing between processes.
    with jax.disable_jit(False):
        return multihost_utils.process_allgather(np.asarray(values, np.float32)).sum(axis=0)


def mesh(devices: Iterable[Any] | None = None) -> Mesh:
    """A mesh for the training loops, by default over all devices of all processes.

    Args:
        devices: At least one device, in any order; the devices of a process become adjacent on the mesh.

    Returns:
        A mesh with one axis, "envs".

    Example:
        >>> mesh(jax.devices()[:1]).axis_names
        ('envs',)
    """
    ordered = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), ("envs",))


def checked(over: Mesh | None, counts: Mapping[str, int]) -> Mesh | None:
    """Returns `over` as a mesh with one axis; raises unless each count is a multiple of the number of devices."""
    if over is None:
        return None
    for name, count in counts.items():
        if count % over.size:
            nearest = max(round(count / over.size), 1) * over.size
            raise ValueError(
                f"{name}: expected a multiple of the {over.size} devices of the mesh, got {count}. Choose one such as "
                f"{nearest}, or make a mesh of fewer devices: gaussjax.training.mesh(jax.devices()[:n])."
            )
    return mesh(over.devices.flat)


def on(over: Mesh | None, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function so that it runs on the mesh `over`, even if the program has set another mesh."""
    if over is None:
        return function

    def moved(leaf: Any) -> Any:
        # An array that was made while the other mesh was set, such as a key, belongs to that mesh.
        own = jax.typeof(leaf).sharding.mesh if isinstance(leaf, jax.Array) else over.abstract_mesh
        elsewhere = not own.empty and own != over.abstract_mesh
        return jax.device_put(leaf, NamedSharding(over, PartitionSpec())) if elsewhere else leaf

    @functools.wraps(function)
    def on_mesh(*arguments: Any) -> Any:
        chosen = jax.sharding.get_abstract_mesh()
        if chosen.empty or chosen == over.abstract_mesh:
            return function(*arguments)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
            raise ValueError(
                f"mesh: expected a call outside of jit, because jax.set_mesh has set {chosen} and the loop has a mesh "
                f"of its own. Call loop.init and loop.step without jit, or make the loop without mesh."
            )
        with jax.set_mesh(over):
            return function(*jax.tree.map(moved, arguments))

    return on_mesh


def spread(tree: Any, over: Mesh | None) -> Any:
    """Shards arrays along their first axis, for use inside `jit`."""
    return tree if over is None else jax.lax.with_sharding_constraint(tree, _spread(over))


def whole(tree: Any, over: Mesh | None) -> Any:
    """Replicates arrays on each device, for use inside `jit`."""
    return tree if over is None else jax.lax.with_sharding_constraint(tree, NamedSharding(over, PartitionSpec()))


def environments_first(rows: Any, over: Mesh | None) -> Any:
    """Swaps `(T, N, …)` to `(N, T, …)` on a mesh, because flattening `N` first needs no gather between devices."""
    return rows if over is None else jax.tree.map(lambda leaf: jax.numpy.swapaxes(leaf, 0, 1), rows)


def shard_fields(state: Any, over: Mesh | None, names: Iterable[str]) -> Any:
    """Shards the named fields of a NamedTuple along their first axis and replicates the others, inside `jit`."""
    fields = state._asdict().items()
    return state._replace(**{name: (spread if name in names else whole)(part, over) for name, part in fields})


def share(over: Mesh | None, count: int) -> slice:
    """Slice of the environments that this process steps, out of the `count` environments of all processes."""
    over = checked(over, {"num_envs": count})
    if over is None:
        return slice(0, count)
    mine = [i for i, device in enumerate(over.devices.flat) if device.process_index == jax.process_index()]
    each = count // over.size
    return slice(mine[0] * each, (mine[-1] + 1) * each)


def joined(tree: Any, over: Mesh | None, axis: int) -> Any:
    """Joins the parts that the processes hold into arrays sharded along `axis` over all devices."""
    if over is None:
        return tree
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(_spread(over, axis), part), tree)


def local(tree: Any, over: Mesh | None) -> Any:
    """The copy of replicated arrays that one device of this process holds."""
    return tree if over is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def fetched(tree: Any) -> Any:
    """Gathers sharded arrays on one device of this process; every process has to call this function."""
    leaves, structure = jax.tree.flatten(tree)
    remote = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable]
    if remote:
        shardings = [NamedSharding(leaves[i].sharding.mesh, PartitionSpec()) for i in remote]
        # Under `jax.disable_jit` JAX moves nothing between processes.
        with jax.disable_jit(False):
            gathered = jax.jit(lambda arrays: arrays, out_shardings=shardings)([leaves[i] for i in remote])
        for i, array in zip(remote, gathered, strict=True):
            leaves[i] = array.addressable_data(0)
    return structure.unflatten(leaves)


def like(array: np.ndarray, template: Any) -> jax.Array:
    """Converts a NumPy array, the same in every process, to a JAX array with the sharding of `template`."""
    sharding = getattr(template, "sharding", None)
    if sharding is None or len(sharding.device_set) == 1:
        return jax.numpy.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _spread(over: Mesh, axis: int = 0) -> NamedSharding:
    return NamedSharding(over, PartitionSpec(*[None] * axis, over.axis_names))

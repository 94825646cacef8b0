"""Training over many devices: how arrays lie on a mesh, within one process or over several.

The compiler puts in all communication: a program says how its arrays lie, and sums and means
over what is spread become sums over the devices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def mesh(devices: Iterable[Any] | None = None) -> Mesh:
    """A mesh over devices, by default over all of all processes.

    Args:
        devices: At least one. Those of one process come to lie side by side, so that each process
            has one share of the environments.

    Returns:
        A mesh of one axis, "envs".

    Example:
        >>> mesh(jax.devices()[:1]).axis_names
        ('envs',)
    """
    ordered = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), ("envs",))


def checked(over: Mesh | None, counts: Mapping[str, int]) -> Mesh | None:
    """The devices of a mesh, whatever its shape, as one row.

    Args:
        over: A mesh of ours or of yours, or None for training on one device.
        counts: What is spread over it, by name.

    Returns:
        A mesh as `mesh` makes it, or None.

    Raises:
        ValueError: One of them cannot be cut into as many equal parts as there are devices.

    Example:
        >>> checked(mesh(jax.devices()[:1]), {"num_envs": 16}).size
        1
    """
    if over is None:
        return None
    for name, count in counts.items():
        if count % over.size:
            nearest = max(round(count / over.size), 1) * over.size
            raise ValueError(
                f"{name}: expected a multiple of the {over.size} devices of the mesh, got {count}. Choose one such as "
                f"{nearest}, or make a mesh of fewer devices: sharding.mesh(jax.devices()[:n])."
            )
    return mesh(over.devices.flat)


def spread(tree: Any, over: Mesh | None) -> Any:
    """Within jit: each array cut along its first axis, a part on each device.

    Args:
        tree: Arrays; the length of their first axis is a multiple of the number of devices.
        over: A mesh, or None.

    Returns:
        The same arrays; without a mesh as they came.

    Example:
        >>> over = mesh(jax.devices()[:1])
        >>> jax.jit(lambda rows: spread(rows, over))(np.zeros((4, 3))).addressable_shards[0].data.shape
        (4, 3)
    """
    return tree if over is None else jax.lax.with_sharding_constraint(tree, _spread(over))


def whole(tree: Any, over: Mesh | None) -> Any:
    """Within jit: each array whole on each device.

    Args:
        tree: Arrays.
        over: A mesh, or None.

    Returns:
        The same arrays; without a mesh as they came.

    Example:
        >>> over = mesh(jax.devices()[:1])
        >>> jax.jit(lambda rows: whole(rows, over))(np.zeros((4, 3))).sharding.is_fully_replicated
        True
    """
    return tree if over is None else jax.lax.with_sharding_constraint(tree, NamedSharding(over, PartitionSpec()))


def environments_first(rows: jax.Array, over: Mesh | None) -> jax.Array:
    """`(T, N, …)` as `(N, T, …)`, which is flattened without being gathered.

    Args:
        rows: An array.
        over: A mesh, or None.

    Returns:
        The array with its first two axes exchanged; without a mesh as it came.

    Example:
        >>> environments_first(np.zeros((5, 2, 3)), mesh(jax.devices()[:1])).shape
        (2, 5, 3)
    """
    return rows if over is None else jax.numpy.swapaxes(rows, 0, 1)


def laid(state: Any, over: Mesh | None, names: Iterable[str]) -> Any:
    """Within jit: a state whose named fields are spread over their first axis, all else whole.

    Args:
        state: A NamedTuple.
        over: A mesh, or None.
        names: Of its fields.

    Returns:
        The same state; without a mesh as it came.

    Example:
        >>> from gaussjax.training.replay import Buffer
        >>> laid(Buffer(rows=np.zeros(4), added=np.zeros(())), None, ["rows"]).rows.shape
        (4,)
    """
    names = set(names)
    return state._replace(
        **{name: (spread if name in names else whole)(part, over) for name, part in state._asdict().items()}
    )


def share(over: Mesh | None, count: int) -> slice:
    """Which of all environments this process steps.

    Args:
        over: A mesh, or None.
        count: How many environments there are in all processes together.

    Returns:
        Their indices.

    Example:
        >>> share(mesh(jax.devices()[:1]), 8)
        slice(0, 8, None)
    """
    over = checked(over, {"num_envs": count})
    if over is None:
        return slice(0, count)
    mine = [i for i, device in enumerate(over.devices.flat) if device.process_index == jax.process_index()]
    each = count // over.size
    return slice(mine[0] * each, (mine[-1] + 1) * each)


def joined(tree: Any, over: Mesh | None, axis: int) -> Any:
    """Arrays cut along one axis over all devices, from the processes' parts.

    Args:
        tree: Arrays of this process: its share of them.
        over: A mesh, or None.
        axis: Along which they are cut.

    Returns:
        The whole arrays, of which each device holds a part; without a mesh as they came.

    Example:
        >>> joined(np.zeros((4, 3), np.float32), mesh(jax.devices()[:1]), 0).shape
        (4, 3)
    """
    if over is None:
        return tree
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(_spread(over, axis), part), tree)


def local(tree: Any, over: Mesh | None) -> Any:
    """What is whole on each device, on one device of this process.

    Args:
        tree: Arrays that `whole` laid.
        over: A mesh, or None.

    Returns:
        The same arrays; without a mesh as they came.

    Example:
        >>> over = mesh(jax.devices()[:1])
        >>> local(jax.jit(lambda rows: whole(rows, over))(np.zeros(3, np.float32)), over).tolist()
        [0.0, 0.0, 0.0]
    """
    return tree if over is None else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def fetched(tree: Any) -> Any:
    """Arrays of which other processes hold parts, whole on one device of this one; all else as it came.

    Every process has to call it: what it lacks comes from the others.

    Args:
        tree: Arrays.

    Returns:
        The same arrays, which this process can read.

    Example:
        >>> fetched({"weights": jax.numpy.ones(2)})["weights"].tolist()
        [1.0, 1.0]
    """
    leaves, structure = jax.tree.flatten(tree)
    remote = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable]
    if remote:
        shardings = [NamedSharding(leaves[i].sharding.mesh, PartitionSpec()) for i in remote]
        gathered = jax.jit(lambda arrays: arrays, out_shardings=shardings)([leaves[i] for i in remote])
        for i, array in zip(remote, gathered, strict=True):
            leaves[i] = array.addressable_data(0)
    return structure.unflatten(leaves)


def like(array: np.ndarray, template: Any) -> jax.Array:
    """An array that every process has, lying as another array does.

    Args:
        array: On the host.
        template: Of the same shape.

    Returns:
        A JAX array.

    Example:
        >>> like(np.ones(2, np.float32), jax.numpy.zeros(2)).tolist()
        [1.0, 1.0]
    """
    sharding = getattr(template, "sharding", None)
    if sharding is None or len(sharding.device_set) == 1:
        return jax.numpy.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _spread(over: Mesh, axis: int = 0) -> NamedSharding:
    return NamedSharding(over, PartitionSpec(*[None] * axis, over.axis_names))

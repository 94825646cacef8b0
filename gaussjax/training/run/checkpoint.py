"""Training checkpoints: all that a step carries, the latest and the one before, never half a file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core import atomic_file
from gaussjax.files import container
from gaussjax.files.container import PolicyFileError
from gaussjax.training import replay
from gaussjax.training.parallel import sharding

FORMAT = 1
LATEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        state: As it was saved, bit for bit.
        extra: What was saved beside it.
        notice: Empty, or why the latest checkpoint was not used.
    """

    state: Any
    extra: dict[str, Any]
    notice: str


def save(folder: Path, state: Any, extra: Mapping[str, Any]) -> None:
    """Writes a checkpoint; the latest one becomes the previous one.

    At every moment the folder holds one that is whole, so a crash costs one interval at most. A replay
    buffer is written as far as it is filled.

    Args:
        folder: Of the training.
        state: Any pytree of arrays, numbers and PRNG keys.
        extra: JSON-able, such as where host environments stand.

    Raises:
        PolicyFileError: What was learnt holds NaN; the checkpoints stay as they are.
    """
    tensors, keys = _flatten(state)
    latest = folder / LATEST
    # An environment that has diverged holds NaN until its episode ends, and goes on from there as it would have.
    container.refuse_nan(
        {name: array for name, array in tensors.items() if not name.startswith(".environment")}, latest
    )
    _keep(latest, folder / PREVIOUS)
    container.write(latest, tensors, {"format": FORMAT, "kind": "checkpoint", "keys": keys, "extra": dict(extra)})


def load(folder: Path, template: Any) -> Restored:
    """The latest checkpoint, or the previous one where the latest is damaged.

    Args:
        folder: Of the training.
        template: A state of the same structure, such as `algorithm.init` makes; its values are not used.

    Raises:
        FileNotFoundError: There is no checkpoint.
        PolicyFileError: Both are damaged, or of another structure.
    """
    paths = [path for path in (folder / LATEST, folder / PREVIOUS) if path.exists()]
    if not paths:
        raise FileNotFoundError(f"{folder}: expected a checkpoint, got none. Was it trained with checkpoints?")
    faults = []
    for path in paths:
        try:
            tensors, description = container.read(path)
        except PolicyFileError as error:
            faults.append(str(error))
            continue
        if path.name == PREVIOUS:
            faults = faults or [f"{folder / LATEST} is missing."]
        notice = f"{' '.join(faults)} Going on from the previous checkpoint." if faults else ""
        return Restored(_restore(path, tensors, description, template), description.get("extra", {}), notice)
    raise PolicyFileError(" ".join(faults))


def _keep(latest: Path, previous: Path) -> None:
    """Lets the previous checkpoint be the latest one, which stays: there is no moment without one."""
    if not latest.exists():
        return
    try:
        # A damaged file must not push out a good one.
        container.read(latest)
    except PolicyFileError:
        return
    atomic_file.remove_stale(previous)
    link = previous.with_name(f".{previous.name}.writer-{os.getpid()}.link")
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    try:
        os.link(latest, link)
    except OSError:
        # A file system without links.
        shutil.copyfile(latest, link)
    os.replace(link, previous)


def _flatten(state: Any) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    tensors, keys = {}, {}
    state = jax.tree.map(lambda node: replay.filled(node) if _is_buffer(node) else node, state, is_leaf=_is_buffer)
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        name = jax.tree_util.keystr(path)
        if _is_key(leaf):
            keys[name] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        tensors[name] = np.asarray(leaf)
    return tensors, keys


def _restore(path: Path, tensors: Mapping[str, np.ndarray], description: Mapping[str, Any], template: Any) -> Any:
    leaves, structure = jax.tree_util.tree_flatten_with_path(template)
    expected = {jax.tree_util.keystr(where): leaf for where, leaf in leaves}
    keys = description.get("keys", {})
    tensors = {**tensors, **_whole_buffers(tensors, template)}
    faults = []
    if description.get("format") != FORMAT or description.get("kind") != "checkpoint":
        faults.append(f"expected a checkpoint of format {FORMAT}, got {description.get('format')}")
    faults += [f"{name} is missing" for name in expected if name not in tensors]
    faults += [f"{name} is unknown (got {array.shape})" for name, array in tensors.items() if name not in expected]
    for name in (name for name in expected if name in tensors):
        wanted, came = _described(expected[name]), (tensors[name].shape, str(tensors[name].dtype), keys.get(name))
        if came != wanted:
            faults.append(f"{name}: expected {wanted[:2]}, got {came[:2]}")
    if faults:
        raise PolicyFileError(f"{path}: {'; '.join(faults)}. Resume with the options of the training that wrote it.")
    return structure.unflatten([_like(leaf, tensors[name], keys.get(name)) for name, leaf in expected.items()])


def _whole_buffers(tensors: Mapping[str, np.ndarray], template: Any) -> dict[str, np.ndarray]:
    """The rows of replay buffers with the places behind them that were never written, which hold zeros."""
    whole = {}
    for where, buffer in jax.tree_util.tree_flatten_with_path(template, is_leaf=_is_buffer)[0]:
        for inner, leaf in jax.tree_util.tree_flatten_with_path(buffer)[0] if _is_buffer(buffer) else ():
            name, added = jax.tree_util.keystr((*where, *inner)), tensors.get(jax.tree_util.keystr(where) + ".added")
            rows = tensors.get(name)
            if added is None or added.shape or rows is None or not rows.ndim or rows.dtype != leaf.dtype:
                continue
            if rows.shape[1:] == leaf.shape[1:] and len(rows) == min(int(added), len(leaf)):
                whole[name] = np.zeros(leaf.shape, leaf.dtype)
                whole[name][: len(rows)] = rows
    return whole


def _is_buffer(node: Any) -> bool:
    # Those of a population have an axis before their places, and are kept as they are.
    return isinstance(node, replay.Buffer) and not jnp.ndim(node.added)


def _described(leaf: Any) -> tuple[tuple[int, ...], str, str | None]:
    if _is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return data.shape, str(data.dtype), str(jax.random.key_impl(leaf))
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return leaf.shape, str(leaf.dtype), None


def _like(leaf: Any, array: np.ndarray, impl: str | None) -> Any:
    if impl is not None:
        return jax.random.wrap_key_data(sharding.like(array, leaf), impl=impl)
    if isinstance(leaf, (int, float)):
        return array.item()
    return array.copy() if isinstance(leaf, np.ndarray) else sharding.like(array, leaf)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

"""Training checkpoints: files with the whole state of a training, of which the last two are kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gaussjax.core import atomic_file, trees
from gaussjax.core.text import listed
from gaussjax.files import container
from gaussjax.files.container import PolicyFileError
from gaussjax.training import parallel, replay

FORMAT = 1
LATEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class Restored(NamedTuple):
    """State and JSON-able data of a checkpoint; `notice` says why an older one was read, and is otherwise empty."""

    state: Any
    extra: dict[str, Any]
    notice: str


def save(folder: Path, state: Any, extra: Mapping[str, Any]) -> None:
    """Writes a training state and JSON-able data as the latest checkpoint; the one before becomes the previous one.

    The folder has a complete checkpoint at every moment. NaN outside the environments raises PolicyFileError.
    """
    tensors, keys = _flatten(state)
    latest = folder / LATEST
    # Environments may hold NaN: a diverged one does until its episode ends, and a resumed training continues it.
    container.refuse_nan({name: part for name, part in tensors.items() if not name.startswith(".environment")}, latest)
    _keep(latest, folder / PREVIOUS)
    container.write(latest, tensors, {"format": FORMAT, "kind": "checkpoint", "keys": keys, "extra": dict(extra)})


def load(folder: Path, template: Any) -> Restored:
    """Reads the latest checkpoint, or the previous one if it is damaged; `template` is a state of equal structure."""
    path, tensors, description, notice = _read(folder)
    return Restored(_restore(path, tensors, description, template), _extra(path, description), notice)


def options(folder: Path) -> dict[str, Any] | None:
    """Options of the run that wrote the checkpoint; None if there is no checkpoint or it does not hold them."""
    try:
        path, _, description, _ = _read(folder)
        found = _extra(path, description).get("options")
    except (OSError, PolicyFileError):
        return None
    return found if isinstance(found, dict) else None


def _read(folder: Path) -> tuple[Path, dict[str, np.ndarray], dict[str, Any], str]:
    """Path, tensors and description of the latest checkpoint that can be read, and the notice of `Restored`."""
    faults = []
    for path in (folder / LATEST, folder / PREVIOUS):
        # A pipe under this name would be read for ever.
        if not path.is_file():
            continue
        try:
            tensors, description = container.read(path)
        except (OSError, PolicyFileError) as error:
            faults.append(str(error))
            continue
        if path.name == PREVIOUS:
            faults = faults or [f"{folder / LATEST} is missing."]
        return (
            path,
            tensors,
            description,
            f"{' '.join(faults)} Going on from the previous checkpoint." if faults else "",
        )
    if faults:
        raise PolicyFileError(" ".join(faults))
    raise FileNotFoundError(
        f"{folder}: expected a checkpoint, got none. It was trained without checkpoints, or they were removed: train "
        f"anew into another folder."
    )


def _extra(path: Path, description: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON-able data of a checkpoint, with None for a best score that is no number."""
    extra = description.get("extra", {})
    if not isinstance(extra, dict):
        raise PolicyFileError(f"{path}: expected a dict of data, got {type(extra).__name__}. Copy the file again.")
    return {**extra, "best": extra["best"] if isinstance(extra.get("best"), float) else None}


def _keep(latest: Path, previous: Path) -> None:
    """Links the latest checkpoint under the name of the previous one, so that one exists while the next is written."""
    try:
        container.read(latest)
    except (OSError, PolicyFileError):
        # A damaged file must not replace a good one.
        return
    atomic_file.remove_stale(previous)
    link = atomic_file.temporary_path(previous)
    try:
        atomic_file.link(latest, link)
        os.replace(link, previous)
    finally:
        # Renaming does nothing if both names are links to one file, as after a crash before the next write.
        link.unlink(missing_ok=True)


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
    keys = description.get("keys")
    keys = keys if isinstance(keys, dict) else {}
    tensors = {**tensors, **_whole_buffers(tensors, template)}
    faults = []
    if description.get("format") != FORMAT or description.get("kind") != "checkpoint":
        faults.append(f"expected a checkpoint of format {FORMAT}, got {description.get('format')}")
    found = {name: (array.shape, _dtype(array, keys.get(name))) for name, array in tensors.items()}
    faults += trees.differences(found, {name: _describe(leaf) for name, leaf in expected.items()})
    if faults:
        raise PolicyFileError(f"{path}: {listed(faults, '; ')}. Resume with the options of the training that wrote it.")
    return structure.unflatten([_like(leaf, tensors[name], keys.get(name)) for name, leaf in expected.items()])


def _whole_buffers(tensors: Mapping[str, np.ndarray], template: Any) -> dict[str, np.ndarray]:
    """Leaves of replay buffers at full length: the checkpoint has only the filled rows, and zeros follow them."""
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
    # False for the buffers of a vmapped population: they have a leading axis and are written at full length.
    return isinstance(node, replay.Buffer) and not jnp.ndim(node.added)


def _describe(leaf: Any) -> tuple[tuple[int, ...], str]:
    if _is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return data.shape, _dtype(data, str(jax.random.key_impl(leaf)))
    return np.shape(leaf), _dtype(leaf if hasattr(leaf, "dtype") else np.asarray(leaf))


def _dtype(array: Any, impl: str | None = None) -> str:
    return f"{array.dtype}, key of {impl}" if impl else str(array.dtype)


def _like(leaf: Any, array: np.ndarray, impl: str | None) -> Any:
    if impl is not None:
        return jax.random.wrap_key_data(parallel.like(array, leaf), impl=impl)
    if isinstance(leaf, (int, float)):
        return array.item()
    return array.copy() if isinstance(leaf, np.ndarray) else parallel.like(array, leaf)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

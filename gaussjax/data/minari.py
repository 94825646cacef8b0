"""Datasets of Minari as episodes whose arrays are read one episode after the other, and their creation."""

from __future__ import annotations

import shutil
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gaussjax.core.text import FileError, quoted
from gaussjax.data.episodes import Rows
from gaussjax.spaces.arrays import to_gymnasium

# Bytes of episodes that are kept, because each leaf of a slice is read on its own.
_KEPT = 2**28
_FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")


def load(name: str) -> Any:
    """A dataset of the local store by its name; nothing is downloaded.

    Raises:
        ModuleNotFoundError: Minari is not installed.
        ValueError: The store has no such dataset, or the name is none of Minari's.
    """
    minari = imported()
    try:
        return minari.load_dataset(name, download=False)
    except FileNotFoundError as error:
        raise FileError(
            f"dataset: expected minari:{name} in the local store, got none. Download it first: minari download {name}"
        ) from error
    except (ValueError, ImportError) as error:
        raise FileError(f"dataset: expected a dataset that Minari reads, got {quoted(name)}: {error}.") from error


def imported() -> Any:
    """The package Minari, which only its datasets need."""
    try:
        import minari
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"dataset: expected the package {error.name}, which datasets of Minari need, got none. Install it: pip "
            f"install 'gaussjax[minari]'",
            name=error.name,
        ) from error
    return minari


def episodes(dataset: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the fields of each episode; an episode is read when its rows are."""
    kept: OrderedDict[int, dict[str, Any]] = OrderedDict()
    sizes: dict[int, int] = {}

    def fields(index: int) -> dict[str, Any]:
        if index not in kept:
            episode = next(iter(dataset.iterate_episodes([index])))
            kept[index] = {name: getattr(episode, name) for name in _FIELDS}
            sizes[index] = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(kept[index]))
            while len(kept) > 1 and sum(map(sizes.__getitem__, kept)) > _KEPT:
                kept.popitem(last=False)
        return kept[index]

    indices = [int(index) for index in dataset.episode_indices]
    form = fields(indices[0]) if indices else {}
    lengths = [int(metadata["total_steps"]) for metadata in dataset.storage.get_episode_metadata(indices)]
    for index, length in zip(indices, lengths, strict=True):

        def rows(path: Any, leaf: Any, index: int = index, length: int = length) -> Rows:
            place = jax.tree_util.keystr(path)

            def read(start: int, stop: int) -> np.ndarray:
                found = dict(jax.tree_util.tree_flatten_with_path(fields(index))[0])
                whole = np.asarray(found.get(path, ()))
                if len(whole) < length or whole.shape[1:] != leaf.shape[1:]:
                    raise FileError(
                        f"{where}: episode {index}: expected {length:,} rows of shape {leaf.shape[1:]} in {place}, got "
                        f"the shape {whole.shape}. Leave the episode out with filter_episodes."
                    )
                return whole[start:stop]

            return Rows((length, *leaf.shape[1:]), leaf.dtype, read)

        yield f"{where}: episode {index}", jax.tree_util.tree_map_with_path(rows, jax.tree.map(np.asarray, form))


def refuse_used(name: str) -> Path:
    """Path of a new dataset in the local store; raises ValueError for a used name, or one that is none of Minari's."""
    minari = imported()
    try:
        minari.dataset.minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError) as error:
        raise FileError(
            f"minari: expected a name with a version such as pendulum/expert-v0, got {quoted(name)}. Name another one."
        ) from error
    path = Path(minari.storage.datasets_root_dir.get_dataset_path(name))
    if path.exists():
        raise FileError(f"minari: {path} exists. Name another dataset, such as one with a higher version.")
    return path


def create(
    name: str, episodes: Sequence[Mapping[str, Any]], observation_space: Any, action_space: Any, environment: str | None
) -> None:
    """Creates a dataset in Minari's local store; after an error nothing remains of it.

    Args:
        name: Name of the dataset, which has to be a new one.
        episodes: Episodes as `gaussjax.rollout.record` returns them.
        observation_space: Space of one observation.
        action_space: Space of one action.
        environment: Name of the environment in Gymnasium, or None.
    """
    import gymnasium

    minari, path = imported(), refuse_used(name)
    buffers = [minari.data_collector.EpisodeBuffer(id=i, **episode) for i, episode in enumerate(episodes)]
    try:
        with warnings.catch_warnings():
            # Minari recommends an author and a description.
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                name,
                buffers,
                None if environment is None else gymnasium.spec(environment),
                observation_space=to_gymnasium(observation_space, stored=True),
                action_space=to_gymnasium(action_space, stored=True),
                jpeg_encoding=False,
            )
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise

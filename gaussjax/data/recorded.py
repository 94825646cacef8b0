"""Reading of recorded experience from files and from memory."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from gaussjax.core import untrusted
from gaussjax.core.text import FileError, printable, quoted
from gaussjax.data import hdf5, minari, npz
from gaussjax.data.checks import arrays, checked, in_memory
from gaussjax.data.episodes import FIELDS, IN_MEMORY, NAMES, Episodes, Rows, is_on_disk, joined

_LONGEST_LINE = 2**22


def read_dataset(source: Any, observation_space: Any = None, action_space: Any = None) -> Episodes:
    """Reads recorded experience from a file, from a Minari dataset or from memory.

    Datasets up to 256 MiB are read and checked at once. Larger ones stay on disk, and each slice of a leaf is checked
    when it is read.

    Args:
        source: One of these, where a last observation without an action is dropped:

            - an `.npz` file or a dict with `observations` and `actions`, and perhaps `rewards`, `terminations` (or
              `terminated`, `terminals`, `dones`), `truncations` (or `truncated`, `timeouts`), `starts` and `weights`;
              the parts of a Dict space are named `observations/NAME`;
            - an `.hdf5` or `.h5` file with these names, or in the layout of D4RL, robomimic or Minari;
            - a `.csv` file with columns `observation_0`, … and `action_0`, …, and perhaps the other names;
            - `minari:NAME` for a dataset in Minari's local store, or a dataset object of Minari;
            - a list with a dict, or a pair of observations and actions, for each episode;
            - `Episodes`.
        observation_space: Space of one observation, in any form that `gaussjax.spaces.as_space` converts. None for the
            space of a Minari dataset, and else for floating numbers as float32 and integers as they are.
        action_space: Box of the actions, or None in the same way.

    Returns:
        The episodes, in the dtypes of the spaces.

    Raises:
        ValueError: A field is missing, has another length, structure, shape or dtype than expected, or holds a NaN, an
            infinity or a value outside its space; or the file has another format or takes too much memory.
        TypeError: The action space is not a Box.
        OSError: The file cannot be opened.
        ModuleNotFoundError: The format needs h5py or minari.

    Example:
        >>> read_dataset([(np.zeros((4, 2)), np.zeros((3, 1))), (np.zeros((2, 2)), np.zeros((2, 1)))]).starts
        array([ True, False, False,  True, False])
    """
    where, spaces = "dataset", (observation_space, action_space)
    if isinstance(source, (str, Path)):
        if str(source).startswith("minari:"):
            return read_dataset(minari.load(str(source).removeprefix("minari:")), *spaces)
        where, columns = _from_file(Path(source))
    elif hasattr(source, "iterate_episodes"):
        where = f"dataset: minari:{printable(source.spec.dataset_id)}"
        spaces = (
            source.observation_space if observation_space is None else observation_space,
            source.action_space if action_space is None else action_space,
        )
        columns = _joined([(name, _fields(fields, name)) for name, fields in minari.episodes(source, where)], where)
    elif isinstance(source, Episodes):
        return checked(source, *spaces, where)
    elif isinstance(source, Mapping):
        columns = _fields(source, where)
    elif isinstance(source, (list, tuple)):
        columns = _joined(list(_from_memory(source, where)), where)
    else:
        raise FileError(
            f"{where}: expected a path, minari:NAME, a dict, a list of episodes, Episodes or a dataset of Minari, got "
            f"{type(source).__name__}. Give one of them."
        )
    episodes = checked(_episodes(columns, where), *spaces, where)
    sizes = sum(leaf.nbytes for leaf in jax.tree.leaves(episodes) if isinstance(leaf, Rows))
    if sizes > IN_MEMORY:
        return episodes
    return jax.tree.map(lambda leaf: in_memory(leaf) if isinstance(leaf, Rows) else leaf, episodes)


def digest(source: str) -> str:
    """SHA-256 of the bytes of a file, or of all files of a dataset in Minari's local store.

    Args:
        source: Path of a file, or `minari:NAME`.

    Returns:
        The digest as hexadecimal digits.

    Raises:
        ValueError: The store has no such dataset, or the path names no regular file.
        ModuleNotFoundError: Minari is not installed.
        OSError: A file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "empty.csv")
        >>> open(path, "w").close()
        >>> digest(path)[:8]
        'e3b0c442'
    """
    paths, found = [Path(source)], hashlib.sha256()
    if source.startswith("minari:"):
        folder = Path(minari.load(source.removeprefix("minari:")).storage.data_path)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        with untrusted.opened(path, whole=False) as (file, _):
            hashlib.file_digest(file, lambda: found)
    return found.hexdigest()


def _from_file(path: Path) -> tuple[str, dict[str, Any]]:
    where, suffix = f"dataset: {printable(path)}", path.suffix.lower()
    read: dict[str, tuple[Callable[..., Any], str]] = {
        ".npz": (npz.read, "an .npz file of arrays"),
        ".csv": (_read_csv, "a .csv file with a row for each step"),
        **dict.fromkeys((".hdf5", ".h5"), (hdf5.read, "an HDF5 file of arrays")),
    }
    if suffix not in read:
        raise FileError(
            f"{where}: expected a name that ends in .npz, .csv, .hdf5 or .h5, or minari:NAME, got {quoted(suffix)}."
        )
    with untrusted.opened(path, whole=suffix == ".csv") as (file, size):
        try:
            found = read[suffix][0](file, size)
        except ModuleNotFoundError:
            raise
        except Exception as error:
            raise FileError(f"{where}: expected {read[suffix][1]}, got another: {error}.") from error
    if isinstance(found, dict):
        return where, _fields(found, where)
    return where, _joined([(f"{where}: {name}", _fields(one, f"{where}: {name}")) for name, one in found], where)


def _from_memory(source: Sequence[Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the fields of each episode of a list."""
    for i, episode in enumerate(source):
        name = f"{where}: episode {i}"
        if isinstance(episode, (tuple, list)) and len(episode) == 2:
            episode = dict(zip(("observations", "actions"), episode, strict=True))
        if not isinstance(episode, Mapping):
            raise FileError(
                f"{name}: expected a dict of arrays, or a pair of observations and actions, got "
                f"{type(episode).__name__}. Give one of them for each episode."
            )
        yield name, _fields(episode, name)


def _fields(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of `Episodes` by the names of a source; names with slashes become dicts, and leaves arrays."""
    tree = _nested(given, where)
    found = {}
    for field, names in NAMES.items():
        name = next((name for name in names if tree.get(name) is not None), None)
        if name is not None:
            found[field] = arrays(tree[name], f"{where}: {name}", nested=field == "observations")
    if not {"observations", "actions"} <= set(found) or not jax.tree.leaves(found["observations"]):
        names = quoted(sorted(map(str, given)))
        raise FileError(f"{where}: expected observations and actions, got {names}. Rename the arrays.")
    return found


def _nested(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Dict of dicts, from names such as `observations/image`; a dict with the names `_index_0`, … is a tuple."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        *folders, last = str(name).split("/")
        if len(folders) > untrusted.DEEPEST:
            raise FileError(f"{where}: expected at most {untrusted.DEEPEST} slashes in a name, got {len(folders)}.")
        node: Any = found
        for folder in folders:
            node = node.setdefault(folder, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last in node:
            raise FileError(f"{where}: {quoted(name)}: expected each name once, got an array and parts of it.")
        node[last] = value
    return found


def _joined(episodes: list[tuple[str, dict[str, Any]]], where: str) -> dict[str, Any]:
    """Fields of all episodes, one after the other, from pairs of a name and the fields of an episode."""
    if not episodes:
        raise FileError(f"{where}: expected at least one episode, got none. Record some first.")
    first_name, first = episodes[0]
    lengths = []
    for name, fields in episodes:
        fields.pop("starts", None)
        if set(fields) != set(first):
            raise FileError(
                f"{name}: expected {quoted(sorted(first))} as in {first_name.rpartition(': ')[2]}, got "
                f"{quoted(sorted(fields))}. Give all episodes the same fields."
            )
        length = len(fields["actions"])
        if not length:
            raise FileError(f"{name}: expected at least one step, got an empty episode. Leave it out.")
        lengths.append(length)
        for field in fields:
            leaves, wanted = (_shapes(each[field]) for each in (fields, first))
            if leaves != wanted:
                raise FileError(
                    f"{name}: {field}: expected rows of shape {quoted(wanted)} as in "
                    f"{first_name.rpartition(': ')[2]}, got {quoted(leaves)}. Correct the episode, or leave it out."
                )
            _refuse_ragged(name, field, fields[field], length)
    whole = {
        field: jax.tree.map(lambda *parts: joined(parts, lengths), *(fields[field] for _, fields in episodes))
        for field in first
    }
    starts = np.zeros(sum(lengths), bool)
    starts[np.cumsum([0, *lengths[:-1]])] = True
    return {**whole, "starts": starts}


def _shapes(tree: Any) -> Any:
    found = {jax.tree_util.keystr(at): tuple(leaf.shape[1:]) for at, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    return found[""] if set(found) == {""} else found


def _refuse_ragged(where: str, field: str, tree: Any, length: int) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if len(leaf) != length and not (field == "observations" and len(leaf) == length + 1):
            raise FileError(
                f"{where}: expected one action for each observation, got {len(leaf):,} "
                f"{field}{jax.tree_util.keystr(path)} and {length:,} actions. Correct the episode, or leave it out."
            )


def _episodes(fields: dict[str, Any], where: str) -> Episodes:
    """Record of the fields, whose episodes start after the last steps if the source does not tell otherwise."""
    length = len(fields["actions"])
    if not length:
        raise FileError(f"{where}: expected at least one action, got none. Record some steps first.")
    for field, tree in fields.items():
        _refuse_ragged(where, field, tree, length)
    # A last observation without an action is dropped.
    fields = {field: jax.tree.map(lambda leaf: joined([leaf], [length]), tree) for field, tree in fields.items()}
    ends = [fields[field] for field in ("terminated", "truncated") if field in fields]
    if "starts" not in fields and ends:

        def read(start: int, stop: int) -> np.ndarray:
            after = [np.asarray(flags[max(start - 1, 0) : stop - 1]).reshape(-1) != 0 for flags in ends]
            return np.concatenate([np.ones(int(start == 0), bool), np.logical_or.reduce(after)])

        starts = Rows((length,), bool, read)
        fields["starts"] = starts if any(map(is_on_disk, ends)) else starts[:]
    return Episodes(**fields)


def _read_csv(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    rows = csv.reader(_lines(file), skipinitialspace=True)
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise ValueError("expected columns with different names, got equal ones")
    numbers = (number for row in rows if row for number in _numbers(row, len(header), f"line {rows.line_num}"))
    with np.errstate(over="ignore"):  # Numbers beyond float32 become infinite, which the checks refuse.
        values = np.fromiter(numbers, np.float32).reshape(-1, max(1, len(header)))
    columns = {}
    for plural, singular in (("observations", "observation_"), ("actions", "action_")):
        named = {name: i for i, name in enumerate(header) if name.startswith(singular)}
        wanted = [f"{singular}{i}" for i in range(len(named))]
        if set(named) != set(wanted) or not named:
            raise ValueError(f"expected columns {singular}0, {singular}1, …, got {quoted(header)}")
        columns[plural] = values[:, [named[name] for name in wanted]]
    return columns | {name: values[:, i] for i, name in enumerate(header) if name in FIELDS}


def _lines(file: BinaryIO) -> Iterator[str]:
    """Yields the lines of a file as text; a row of text takes many times its size, so that a long line is refused."""
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"expected lines of at most {_LONGEST_LINE:,} bytes, got more in line {number}")
        # Spreadsheets begin a file with a byte order mark.
        yield line.decode("utf-8-sig" if number == 1 else "utf-8")


def _numbers(row: list[str], count: int, place: str) -> list[float]:
    if len(row) != count:
        raise ValueError(f"expected {count} numbers as the header names columns, got {len(row)} in {place}")
    try:
        return [float(value) for value in row]
    except ValueError as error:
        raise ValueError(f"expected numbers, got {quoted(row)} in {place}") from error

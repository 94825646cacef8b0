"""Recorded observations and actions, which cloning learns from."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float


class Dataset(NamedTuple):
    """Pairs of what was seen and what was done.

    Attributes:
        observations: `(N, F)`.
        actions: In units of the Box, `(N, A)`.
    """

    observations: Float[Any, "pairs features"]
    actions: Float[Any, "pairs act"]


def read_dataset(source: str | Path | Mapping[str, Any]) -> Dataset:
    """Pairs from a file or a dict.

    Args:
        source: A dict or an `.npz` file with `observations` and `actions`, as Minari's and D4RL's
            have them (an observation more than actions, at the end, is dropped), or a `.csv` file
            whose header names columns `observation_0`, … and `action_0`, ….

    Returns:
        Both as float32, a row for each pair.

    Raises:
        ValueError: A part is missing, holds NaN, or the lengths differ; or the file is none of these.

    Example:
        >>> read_dataset({"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1))}).actions.shape
        (3, 1)
    """
    if isinstance(source, Mapping):
        columns: Mapping[str, Any] = source
    elif Path(source).suffix == ".npz":
        columns = _read_npz(Path(source))
    else:
        columns = _read_csv(Path(source))
    missing = {"observations", "actions"} - set(columns)
    if missing:
        raise ValueError(f"dataset: expected observations and actions, got {sorted(columns)}.")
    observations = np.asarray(columns["observations"], np.float32)
    actions = np.asarray(columns["actions"], np.float32)
    if len(observations) == len(actions) + 1:
        observations = observations[:-1]
    if len(observations) != len(actions) or not len(actions):
        raise ValueError(
            f"dataset: expected one action for each observation, got {len(observations)} observations and "
            f"{len(actions)} actions."
        )
    for name, column in (("observations", observations), ("actions", actions)):
        broken = np.flatnonzero(~np.isfinite(column.reshape(len(column), -1)).all(axis=1))
        if broken.size:
            raise ValueError(
                f"dataset: expected finite {name}, got NaN or inf in {broken.size} rows, first {broken[0]}."
            )
    return Dataset(observations, actions.reshape(len(actions), -1))


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # NumPy leaves a file open that it opened itself and cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"dataset: expected an .npz file of arrays, got {path} ({error}).") from error


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        numbers = [_numbers(row, len(header), f"{path}, line {rows.line_num}") for row in rows if row]
    values = np.array(numbers, np.float32).reshape(len(numbers), len(header))
    columns = {}
    for plural, singular in (("observations", "observation_"), ("actions", "action_")):
        named = {name: i for i, name in enumerate(header) if name.startswith(singular)}
        wanted = [f"{singular}{i}" for i in range(len(named))]
        if set(named) != set(wanted) or not named:
            raise ValueError(f"dataset: expected columns {singular}0, {singular}1, … in {path}, got {header}.")
        columns[plural] = values[:, [named[name] for name in wanted]]
    return columns


def _numbers(row: list[str], count: int, place: str) -> list[float]:
    if len(row) != count:
        raise ValueError(f"dataset: expected {count} numbers as the header names columns, got {len(row)} in {place}.")
    try:
        return [float(value) for value in row]
    except ValueError as error:
        raise ValueError(f"dataset: expected numbers, got {row} in {place}.") from error

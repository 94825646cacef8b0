"""Datasets of recorded observations and actions for behavioural cloning."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class Dataset(NamedTuple):
    """Recorded pairs of an observation and an action, one pair in each row.

    Attributes:
        observations: Observations, `(N, F)`.
        actions: Actions in units of the Box, `(N, A)`.
    """

    observations: Float[Any, "pairs features"]
    actions: Float[Any, "pairs act"]


def read_dataset(source: str | Path | Mapping[str, Any]) -> Dataset:
    """Reads pairs of observations and actions from a file or a dict.

    Args:
        source: Dict or `.npz` file with `observations` and `actions`, as in Minari and D4RL; a last observation
            without an action is dropped. Or a `.csv` file with columns `observation_0`, … and `action_0`, ….

    Returns:
        Observations and actions as float32, one row for each pair.

    Raises:
        ValueError: An array is missing or contains NaN, the lengths differ, or the file has another format.

    Example:
        >>> read_dataset({"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1))}).actions.shape
        (3, 1)
    """
    columns = source if isinstance(source, Mapping) else _read_file(Path(source))
    if not set(Dataset._fields) <= set(columns):
        raise ValueError(f"dataset: expected observations and actions, got {sorted(columns)}.")
    observations, actions = (np.asarray(columns[name], np.float32) for name in Dataset._fields)
    if len(observations) == len(actions) + 1:
        observations = observations[:-1]
    if len(observations) != len(actions) or not len(actions):
        raise ValueError(
            f"dataset: expected one action for each observation, got {len(observations)} observations and "
            f"{len(actions)} actions."
        )
    dataset = Dataset(observations, actions.reshape(len(actions), -1))
    refuse_infinite(dataset)
    return dataset


def refuse_infinite(dataset: Dataset) -> None:
    """Raises ValueError if the dataset holds NaN or numbers that are infinite in float32."""
    for name, column in dataset._asdict().items():
        with np.errstate(over="ignore"):
            numbers = np.asarray(column, np.float32).reshape(len(column), -1)
        broken = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if broken.size:
            rows = f"{broken.size} rows, first {broken[0]}"
            raise ValueError(f"dataset: expected finite {name}, got NaN or inf in {rows}.")


def _read_file(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".npz":
        return _read_csv(path)
    try:
        # The file is opened here because NumPy does not close a file that it fails to read.
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

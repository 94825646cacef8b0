"""Datasets of recorded observations and actions for behavioural cloning."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float

from gaussjax.core import untrusted
from gaussjax.core.text import FileError, printable, quoted

_LONGEST_HEADER, _LONGEST_LINE = 10_000, 2**22


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
        ValueError: An array is missing, contains NaN or holds no real numbers; the lengths differ; the file has another
            format; or its arrays take more than 10 times the size of the file and 128 MiB of memory.
        OSError: The file cannot be opened.

    Example:
        >>> read_dataset({"observations": np.zeros((3, 2)), "actions": np.zeros((3, 1))}).actions.shape
        (3, 1)
    """
    if isinstance(source, Mapping):
        return _dataset(source, "dataset")
    path = Path(source)
    where, compressed = f"dataset: {printable(path)}", path.suffix.lower() == ".npz"
    with untrusted.opened(path) as (file, size):
        try:
            columns = _read_npz(file, size) if compressed else _read_csv(file)
        except Exception as error:
            kind = "an .npz file of arrays" if compressed else "a .csv file with a row for each pair"
            raise FileError(f"{where}: expected {kind}, got another: {error}.") from error
    return _dataset(columns, where)


def _dataset(columns: Mapping[str, Any], where: str) -> Dataset:
    if not set(Dataset._fields) <= set(columns):
        raise ValueError(f"{where}: expected observations and actions, got {quoted(sorted(columns))}.")
    observations, actions = (_floats(columns[name], f"{where}: {name}") for name in Dataset._fields)
    if len(observations) == len(actions) + 1:
        observations = observations[:-1]
    if len(observations) != len(actions) or not len(actions):
        raise ValueError(
            f"{where}: expected one action for each observation, got {len(observations)} observations and "
            f"{len(actions)} actions."
        )
    dataset = Dataset(observations, actions.reshape(len(actions), -1))
    refuse_infinite(dataset, where)
    return dataset


def _floats(column: Any, where: str) -> np.ndarray:
    """Converts a column to float32; raises ValueError for text, complex numbers, dates, masks and ragged lists."""
    try:
        array = np.asarray(column)
    except ValueError as error:
        raise ValueError(f"{where}: expected rows of equal length, got others.") from error
    real = array.dtype.kind in "fiub" or array.dtype.name == "bfloat16"
    if not real or not array.ndim or isinstance(column, np.ma.MaskedArray):
        kind = "a masked array" if isinstance(column, np.ma.MaskedArray) else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{where}: expected an array of real numbers with a row for each pair, got {kind}.")
    with np.errstate(over="ignore"):  # `refuse_infinite` names rows beyond float32.
        return array.astype(np.float32, copy=False)


def refuse_infinite(dataset: Dataset, where: str = "dataset") -> None:
    """Raises ValueError if the dataset holds NaN or numbers that are infinite in float32."""
    for name, column in dataset._asdict().items():
        with np.errstate(over="ignore"):
            numbers = np.asarray(column, np.float32).reshape(len(column), -1)
        broken = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if broken.size:
            rows = f"{broken.size} rows, first {broken[0]}"
            raise ValueError(f"{where}: expected finite {name}, got NaN or inf in {rows}.")


def _read_npz(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """Reads the columns of a dataset from a zip of NumPy arrays, whose sizes are compared before anything is read."""
    columns, taken = {}, 0
    with untrusted.open_zip(file) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name not in Dataset._fields:
                columns[name] = np.empty(0)
                continue
            if name in columns:
                raise ValueError(f"{name} occurs twice")
            with archive.open(entry) as stored:
                version = np.lib.format.read_magic(stored)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, fortran, dtype = read_header[version](stored, max_header_size=_LONGEST_HEADER)
                count, start = math.prod(shape), stored.tell()
                if dtype.hasobject or count * dtype.itemsize != entry.file_size - start:
                    raise ValueError(f"{name} has {dtype} of shape {shape} in {entry.file_size - start} bytes")
                # The array itself, a copy as float32, and a look for infinities.
                taken += count * (dtype.itemsize + 4 + 1)
                if taken > untrusted.budget(size):
                    raise ValueError(f"arrays of more than {untrusted.budget(size):,} bytes. Save them uncompressed")
                array = np.frombuffer(stored.read(count * dtype.itemsize), dtype)
                columns[name] = array.reshape(shape, order="F" if fortran else "C")
    return columns


def _read_csv(file: BinaryIO) -> dict[str, np.ndarray]:
    rows = csv.reader(_lines(file))
    header = next(rows, [])
    if len(set(header)) < len(header):
        raise ValueError("expected columns with different names, got equal ones")
    numbers = (number for row in rows if row for number in _numbers(row, len(header), f"line {rows.line_num}"))
    values = np.fromiter(numbers, np.float32).reshape(-1, max(1, len(header)))
    columns = {}
    for plural, singular in (("observations", "observation_"), ("actions", "action_")):
        named = {name: i for i, name in enumerate(header) if name.startswith(singular)}
        wanted = [f"{singular}{i}" for i in range(len(named))]
        if set(named) != set(wanted) or not named:
            raise ValueError(f"expected columns {singular}0, {singular}1, …, got {quoted(header)}")
        columns[plural] = values[:, [named[name] for name in wanted]]
    return columns


def _lines(file: BinaryIO) -> Iterator[str]:
    """Yields the lines of a file as text; a row of text takes many times its size, so that a long line is refused."""
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"expected lines of at most {_LONGEST_LINE:,} bytes, got more in line {number}")
        yield line.decode()


def _numbers(row: list[str], count: int, place: str) -> list[float]:
    if len(row) != count:
        raise ValueError(f"expected {count} numbers as the header names columns, got {len(row)} in {place}")
    try:
        return [float(value) for value in row]
    except ValueError as error:
        raise ValueError(f"expected numbers, got {quoted(row)} in {place}") from error

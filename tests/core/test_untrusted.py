"""Bounds for content from files: kinds of files, entries, depth and bytes."""

import os
import time

import numpy as np
import pytest

import gaussjax
from gaussjax import data, files
from gaussjax.core import untrusted
from gaussjax.interop import skrl

READERS = {
    "policy.safetensors": gaussjax.load,
    "summary.safetensors": files.summary,
    "agent.pt": skrl.arrays,
    "agent.pickle": skrl.arrays,
    "model.flax": skrl.arrays,
    "data.npz": data.read_dataset,
    "data.csv": data.read_dataset,
    "data.hdf5": data.read_dataset,
}


MADE = {
    "FIFO": os.mkfifo,
    "link to a FIFO": lambda path: (os.mkfifo(path.with_name("fifo")), path.symlink_to(path.with_name("fifo"))),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "sparse file of 8 TB": lambda path: (path.touch(), os.truncate(path, 2**43)),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", MADE)
def test_only_regular_files_are_read(tmp_path, name, kind):
    path = tmp_path / name
    MADE[kind](path)
    start = time.perf_counter()
    # Datasets may be larger than the memory.
    refused = r"regular file|file that fits into|n \.npz file|n HDF5 file"
    with pytest.raises(ValueError, match=rf"{name}: expected a ?({refused})"):
        READERS[name](path)
    assert time.perf_counter() - start < 600


@pytest.mark.parametrize("name", READERS)
def test_a_folder_and_a_missing_file_are_named(tmp_path, name):
    path = tmp_path / name
    for error in (FileNotFoundError, IsADirectoryError):
        with pytest.raises(error) as caught:
            READERS[name](path)
        assert str(path) in str(caught.value)
        path.mkdir(exist_ok=True)


@pytest.mark.parametrize("name", READERS)
def test_a_name_with_a_nul_character_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"x00.*: expected a name without NUL characters"):
        READERS[name](tmp_path / f"\0{name}")


def loop(kind):
    node = kind()
    node.append(node) if kind is list else node.update(a=node)
    return node


def doubled(times):
    node: list = []
    for _ in range(times):
        node = [node, node]
    return node


def deep(depth):
    node: list = []
    for _ in range(depth):
        node = [node]
    return node


REFUSED = {
    "entries": [0] * 1001,
    "list in itself": loop(list),
    "dict in itself": loop(dict),
    "lists that share lists": doubled(40),
    "depth": deep(51),
    "bytes": {"a": np.zeros(100_000), "b": np.zeros(100_000)},
    "one array twice": [np.zeros(100_000)] * 2,
    "text": ["a" * 10**6] * 2,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tree_is_counted_as_a_whole(name):
    with pytest.raises(ValueError, match=r"expected at most 1,(000|200,000) (entries|bytes)"):
        untrusted.refuse_large(REFUSED[name], 1000, 1_200_000)


def test_small_trees_pass():
    untrusted.refuse_large({"a": [0] * 998}, 1000)
    untrusted.refuse_large(deep(49), 1000)
    untrusted.refuse_large([np.zeros(10**6)], 10)
    untrusted.refuse_swollen('{"a": [1, 2]}' * 1000)

"""Files of 20 GB, of which never more than a tenth is in memory."""

import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest

LENGTH, OBSERVATIONS, ACTIONS = 200_000_000, 20, 5
SHAPES = {
    "observations": ((LENGTH, OBSERVATIONS), np.float32),
    "actions": ((LENGTH, ACTIONS), np.float32),
    "terminations": ((LENGTH,), bool),
}


class Sparse:
    """A file in which blocks of zeros take no place."""

    def __init__(self, file):
        self.file = file
        self.seek, self.tell, self.flush, self.seekable = file.seek, file.tell, file.flush, file.seekable

    def write(self, block):
        if len(block) > 2**20:
            return self.file.seek(len(block), 1)
        return self.file.write(block)


def npz(path, shapes=SHAPES):
    zeros = bytes(2**24)
    with path.open("w+b") as file, zipfile.ZipFile(Sparse(file), "w") as archive:
        for name, (shape, dtype) in shapes.items():
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, header)
                left = int(np.prod(shape)) * np.dtype(dtype).itemsize
                while left:
                    block = zeros[: min(left, len(zeros))]
                    entry.write(block)
                    left -= len(block)


def hdf5(path):
    with h5py.File(path, "w") as file:
        for name, (shape, dtype) in SHAPES.items():
            settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            settings.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, settings)


# The first case reads all rows, as a learner does; the second checks them.
READ = """
import json, sys
from gaussjax import data, spaces
from tests.faults.readers import memory

path, checks = sys.argv[1:]
box = spaces.Box(-1.0, 1.0, (5,))
found = data.read_dataset(path, 20, box)
opened, rows, total = memory("VmHWM"), 0, 0.0
if checks == "check":
    data.check(found, 20, box)
    rows = len(found.actions)
else:
    for start in range(0, len(found.actions), 2**20):
        part = data.rows(found, slice(start, start + 2**20))
        rows, total = rows + len(part.actions), total + float(part.observations.sum()) + int(part.starts.sum())
print(json.dumps([rows, total, opened, memory("VmHWM")]))
"""

# Few wide rows, so that an epoch has few minibatches.
WIDE = {"observations": ((1_250_000, 4096), np.float32), "actions": ((1_250_000, 1), np.float32)}
EPOCH = """
import json, sys
import jax
from gaussjax import data, spaces
from gaussjax.training import bc
from tests.faults.readers import memory

box = spaces.Box(-1.0, 1.0, (1,))
config = bc.Config(batch_size=1000, hidden_sizes=(8,))
loop = bc.make(data.read_dataset(sys.argv[1], 4096, box), bc.make_policy(4096, box, config), config)
state, metrics = loop.step(loop.init(jax.random.key(0)))
print(json.dumps([int(metrics["step"]), float(metrics["mean_error"]), memory("VmHWM")]))
"""


@pytest.mark.slow
def test_an_epoch_over_twenty_gigabytes_takes_less_than_two_of_memory(tmp_path, repository):
    path = tmp_path / "wide.npz"
    npz(path, WIDE)
    assert path.stat().st_size > 20e9
    command = [sys.executable, "-c", EPOCH, path]
    finished = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=3600)
    path.unlink()
    assert finished.returncode == 0, finished.stderr
    epochs, error, peak = json.loads(finished.stdout)
    assert epochs == 1
    assert error < 0.05
    assert peak < 2e9


@pytest.mark.slow
@pytest.mark.parametrize(("make", "how"), [(npz, "rows"), (hdf5, "check")])
def test_twenty_gigabytes_take_less_than_two_of_memory(tmp_path, repository, make, how):
    path = tmp_path / f"large.{make.__name__}"
    make(path)
    assert path.stat().st_size > 20e9
    assert path.stat().st_blocks * 512 < 1e9
    finished = subprocess.run(
        [sys.executable, "-c", READ, path, how], cwd=repository, capture_output=True, text=True, timeout=3600
    )
    path.unlink()
    assert finished.returncode == 0, finished.stderr
    rows, total, opened, peak = json.loads(finished.stdout)
    assert rows == LENGTH
    assert total == (1.0 if how == "rows" else 0.0)
    assert opened < 1e9
    assert peak < 2e9

"""Malicious checkpoints of other libraries: no code runs, and each file gets one clear error."""

import json
import shutil

import numpy as np
import pytest
import tensorstore

from gaussjax.interop import brax
from tests.faults import readers
from tests.interop import checkpoints, malicious


def read(path, reader):
    return readers.READERS[path.suffix][reader](path)


def test_malicious_files_run_nothing_and_get_one_clear_error(tmp_path):
    marker = tmp_path / "executed"
    files = malicious.files(marker)
    assert len(files) >= 30
    wrong = []
    for i, (name, (reader, suffix, content)) in enumerate(files.items()):
        path = tmp_path / f"file_{i}{suffix}"
        path.write_bytes(content)
        try:
            read(path, reader)
            wrong.append(f"{name}: read")
        except ValueError as error:
            text = str(error)
            if path.name not in text or "\n" in text or len(text) > 2000:
                wrong.append(f"{name}: {text[:300]}")
        except BaseException as error:
            wrong.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
        if marker.exists():
            wrong.append(f"{name}: executed")
    assert wrong == []


def test_code_where_no_reader_looks_is_not_executed(tmp_path):
    marker = tmp_path / "executed"
    for name, (reader, suffix, content) in malicious.harmless(marker).items():
        path = tmp_path / f"file{suffix}"
        path.write_bytes(content)
        assert read(path, reader) is not None, name
        assert not marker.exists(), name


@pytest.fixture
def step(tmp_path):
    """A copy of a folder of brax."""
    copy = tmp_path / "step"
    shutil.copytree(checkpoints.folder("brax") / "brax_ppo/000000001000", copy)
    return copy


def zarr(step, **changes):
    """Replaces the folder by one of plain files, with an array of 40 MB of zeros whose description may be changed."""
    for name in ("manifest.ocdbt", "d", "ocdbt.process_0"):
        path = step / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    place = step / "0.mean"
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(place)}}
    metadata = {"shape": [10_000_000], "chunks": [10_000_000], "dtype": "<f4", "compressor": {"id": "zstd", "level": 1}}
    store = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
    store.write(np.full(10_000_000, 1e-9, np.float32)).result()
    described = json.loads((place / ".zarray").read_text()) | changes
    (place / ".zarray").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("says", "change"),
    {
        "cannot be read": lambda step: (step / "ppo_network_config.json").write_text("[" * 100_000),
        "a folder with links": lambda step: (step / "link").symlink_to("/"),
        "tensorstore cannot read": lambda step: (step / "manifest.ocdbt").write_bytes(b"\0" * 1000),
        "too large": lambda step: zarr(step, shape=[10**12]),
        "too large or": lambda step: zarr(step, shape=[10], chunks=[10**12]),
        "no real numbers": lambda step: zarr(step, dtype="|S4"),
        "uncompressed byte": lambda step: zarr(step, shape=[10], chunks=[10]),
    }.items(),
)
def test_malicious_folders_of_brax_get_one_clear_error(says, change, step):
    change(step)
    with pytest.raises(brax.CheckpointError) as raised:
        brax.read(step)
    assert str(step) in str(raised.value)
    assert says in str(raised.value)

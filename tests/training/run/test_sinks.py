import struct
import sys

import pytest

from gaussjax.training.run import sinks

ROWS = [{"step": 64, "episode_return": float("nan"), "kl": 0.25}, {"step": 128, "episode_return": -3.0, "kl": 0.5}]


def scalars(folder):
    """Every scalar of the event files of a folder, in the order in which they were written."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        payload = path.read_bytes()
        while payload:
            # A record is its length, a checksum, the event and another checksum.
            (length,) = struct.unpack("<Q", payload[:8])
            event, payload = Event.FromString(payload[12 : 12 + length]), payload[16 + length :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


def test_tensorboard_has_every_finite_metric_at_its_step(tmp_path):
    pytest.importorskip("tensorboardX")
    with sinks.open_sinks(["tensorboard"], tmp_path, {}) as write:
        for row in ROWS:
            write(row)
    assert scalars(tmp_path / "tensorboard") == [(64, "kl", 0.25), (128, "episode_return", -3.0), (128, "kl", 0.5)]


@pytest.mark.parametrize("name", sinks.PACKAGES)
def test_missing_package_is_named_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, sinks.PACKAGES[name], None)
    with pytest.raises(ModuleNotFoundError, match=rf"{name}: expected the package .*pip install 'gaussjax\[{name}\]'"):
        sinks.check([name])


@pytest.mark.slow
def test_wandb_keeps_an_offline_run_and_goes_on_with_it(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for first, row in enumerate(ROWS):
        with sinks.open_sinks(["wandb"], tmp_path, {"seed": 0}, first) as write:
            write(row)
    runs = [path for path in (tmp_path / "wandb").iterdir() if path.name.startswith("offline-run")]
    identity = (tmp_path / "wandb-run-id.txt").read_text().strip()
    assert len(runs) == 2
    assert all(path.name.endswith(identity) for path in runs)
    assert all(next(path.glob("*.wandb")).stat().st_size > 0 for path in runs)

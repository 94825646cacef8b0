"""Crashes, full disks and flipped bits: no file is lost, torn or read wrongly without an error.

Tests run short by default, and with the full counts of `BARS` in `make test-faults`.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax.files import container
from tests.faults import writer

# Short, full.
BARS = {"kills": (3, 300), "bits": (300, 10_000), "truncations": (60, 1000), "full": (10, 100), "reads": (100, 10_000)}


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.slow)])
def size(request):
    return 0 if request.param == "short" else 1


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "policy.safetensors"
    gaussjax.save(path, writer.POLICY, writer.filled(7.0), metadata={"value": 7})
    return path


@contextlib.contextmanager
def writing(path, seed, repository) -> Iterator[subprocess.Popen]:
    """A process that has started to save a file again and again."""
    command = [sys.executable, "-m", "tests.faults.writer", str(path), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=repository)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def torn(path) -> bool:
    """Whether a file mixes the values of several writers; reading verifies the digest."""
    tensors, description = container.read(path)
    value = description["metadata"]["value"]
    return any((array != value).any() for array in tensors.values())


def temporaries(path):
    return [file for file in path.parent.iterdir() if file.name != path.name]


def test_kill_9_during_a_save_loses_nothing_and_tears_nothing(path, repository, size, record_bar):
    kills, bad, left = BARS["kills"][size], 0, 0
    generator = np.random.default_rng(0)
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.victim", str(path)]
    options = {"env": {**os.environ, "PYTHONPATH": str(repository)}, "cwd": repository, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as server:
        for _ in range(kills):
            server.stdin.write("another\n")
            server.stdin.flush()
            victim = int(server.stdout.readline())
            time.sleep(generator.uniform(0.005, 0.05))
            os.kill(victim, 9)
            assert server.stdout.readline() == "gone\n"
            left += bool(temporaries(path))
            try:
                bad += torn(path)
            except (OSError, ValueError):
                bad += 1
        server.stdin.close()
    gaussjax.save(path, writer.POLICY, writer.filled(7.0), metadata={"value": 7})
    assert temporaries(path) == [], "the next writer removes what the killed ones left"
    if size:
        record_bar("files", f"kill -9 during a save ({left} left a temporary file), lost or torn", kills, bad, 0)
        assert left > 0, "some kills must fall between the opening and the renaming"
    assert bad == 0


def test_every_flipped_bit_is_noticed(path, size, record_bar):
    payload = bytearray(path.read_bytes())
    count, silent = BARS["bits"][size], 0
    # The whole length prefix, then places anywhere.
    for bit in [*range(64), *np.random.default_rng(0).integers(64, 8 * len(payload), count - 64)]:
        payload[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(payload)
        try:
            container.read(path)
            silent += 1
        except gaussjax.PolicyFileError as error:
            silent += path.name not in str(error)
        payload[bit // 8] ^= 1 << (bit % 8)
    if size:
        record_bar("files", "one flipped bit, read in silence", count, silent, 0)
    assert silent == 0


def test_every_truncation_is_noticed(path, size, record_bar):
    payload = path.read_bytes()
    count, silent = BARS["truncations"][size], 0
    for length in [*range(20), *np.random.default_rng(0).integers(20, len(payload), count - 20)]:
        path.write_bytes(payload[:length])
        try:
            gaussjax.load(path)
            silent += 1
        except gaussjax.PolicyFileError as error:
            silent += path.name not in str(error)
    if size:
        record_bar("files", "truncated, read in silence or with another error", count, silent, 0)
    assert silent == 0


def test_full_disk_leaves_the_older_file(path, size, record_bar):
    before = path.read_bytes()
    count, lost = BARS["full"][size], 0
    for limit in np.random.default_rng(0).integers(0, len(before) - 1, count):
        lost += not writer.limited(str(path), 8, int(limit))
        lost += path.read_bytes() != before or temporaries(path) != []
    if size:
        record_bar("files", "disk full (RLIMIT_FSIZE), older file lost", count, lost, 0)
    assert lost == 0
    assert not writer.limited(str(path), 8, 10**9)


def test_four_writers_and_a_reader_never_meet_half_a_file(path, repository, size, record_bar):
    count, bad = BARS["reads"][size], 0
    seen = set()
    with contextlib.ExitStack() as stack:
        for i in range(4 if size else 2):
            stack.enter_context(writing(path, 10 * (i + 1), repository))
        for _ in range(count):
            try:
                bad += torn(path)
                seen.add(container.read(path)[1]["metadata"]["value"])
            except (OSError, ValueError):
                bad += 1
    if size:
        record_bar("files", f"reads beside four writers ({len(seen)} different files seen), torn", count, bad, 0)
        assert len(seen) >= 8
    assert bad == 0


def test_bytes_reach_the_disk_before_the_name_does(path, monkeypatch):
    """The order is write, flush of the file, rename, flush of the folder."""
    calls = []

    def noted(name, describe):
        original = getattr(os, name)

        def function(*arguments, **options):
            calls.append((name, describe(*arguments)))
            return original(*arguments, **options)

        monkeypatch.setattr(os, name, function)

    def kind(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        whole = os.path.isfile(name) and os.path.getsize(name) == path.stat().st_size
        return "folder" if os.path.isdir(name) else "whole file" if whole else "part of a file"

    noted("fsync", kind)
    noted("replace", lambda source, target: os.path.basename(target))
    gaussjax.save(path, writer.POLICY, writer.filled(8.0), metadata={"value": 8})
    assert calls == [("fsync", "whole file"), ("replace", path.name), ("fsync", "folder")]


def test_temporaries_of_dead_writers_go_and_those_of_living_ones_stay(path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = path.parent
    (folder / f".{path.name}.writer-{dead.pid}.abc").write_bytes(b"half")
    living = folder / f".{path.name}.writer-{os.getppid()}.abc"
    living.write_bytes(b"half")
    other = folder / ".other.safetensors.writer-1.abc"
    other.write_bytes(b"half")
    gaussjax.save(path, writer.POLICY, writer.filled(7.0))
    assert set(temporaries(path)) == {living, other}


def test_keys_are_refused_with_the_way_to_store_them(tmp_path):
    params = {"params": {"key": jax.random.key(0), "weights": np.zeros(3)}}
    with pytest.raises(TypeError, match=r"params\['params'\]\['key'\]: .* got PRNG keys. Store jax.random.key_data"):
        gaussjax.save(tmp_path / "x", writer.POLICY, params)

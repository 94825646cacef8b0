"""Crashes, full disks and flipped bits: no file is lost, torn or read wrongly without an error.

Tests run short by default, and with the full counts of `BARS` in `make test-faults`.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import gaussjax
from gaussjax.core import atomic_file
from gaussjax.files import container
from tests.faults.malice import POLICY, filled

# Short, full.
BARS = {"kills": (3, 300), "bits": (300, 10_000), "truncations": (60, 1000), "full": (10, 100), "reads": (100, 10_000)}


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.slow)])
def size(request):
    return 0 if request.param == "short" else 1


@pytest.fixture
def record(size, record_bar):
    """Function that adds a line to the table, in the full run."""
    return record_bar if size else lambda *_: None


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "policy.safetensors"
    save(path, 7)
    return path


def save(path, value):
    gaussjax.save(path, POLICY, filled(float(value)), metadata={"value": value})


@contextlib.contextmanager
def writers(path, width, repository):
    """A function that sends a line to tests/faults/writers.py and returns the answer."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.faults.writers", str(path), str(width)]
    options = {"env": {**os.environ, "PYTHONPATH": str(repository)}, "cwd": repository, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as server:

        def ask(line):
            server.stdin.write(f"{line}\n")
            server.stdin.flush()
            return server.stdout.readline()

        yield ask
        server.stdin.close()


def value_of(path):
    """The value that a file holds, or None if it mixes those of several writers; reading verifies the digest."""
    with contextlib.suppress(OSError, ValueError):
        tensors, description = container.read(path)
        value = description["metadata"]["value"]
        return value if all((array == value).all() for array in tensors.values()) else None


def temporaries(path):
    return [file for file in path.parent.iterdir() if file.name != path.name]


def test_kill_9_during_a_save_loses_nothing_and_tears_nothing(path, repository, size, record):
    kills, bad, left = BARS["kills"][size], 0, 0
    generator = np.random.default_rng(0)
    with writers(path, 200, repository) as ask:
        for _ in range(kills):
            before = set(temporaries(path))
            victim = int(ask(0))
            # On a busy machine a process may not even begin to write within the time below.
            while not set(temporaries(path)) - before:
                time.sleep(0.001)
            time.sleep(generator.uniform(0.0, 0.045))
            os.kill(victim, 9)
            assert ask("wait") == f"{victim}\n"
            left += bool(temporaries(path))
            bad += value_of(path) is None
    save(path, 7)
    assert temporaries(path) == [], "the next writer removes what the killed ones left"
    record("files", f"kill -9 during a save ({left} left a temporary file), lost or torn", kills, bad, 0)
    assert left > 0 or not size, "some kills must fall between the opening and the renaming"
    assert bad == 0


def silent(path, payload, read):
    """Whether a damaged file is read without an error, or with one that does not name the file."""
    path.write_bytes(payload)
    try:
        read(path)
    except gaussjax.PolicyFileError as error:
        return path.name not in str(error)
    return True


def test_every_flipped_bit_is_noticed(path, size, record):
    payload = bytearray(path.read_bytes())
    count, unseen = BARS["bits"][size], 0
    # The whole length prefix, then places anywhere.
    for bit in [*range(64), *np.random.default_rng(0).integers(64, 8 * len(payload), count - 64)]:
        payload[bit // 8] ^= 1 << (bit % 8)
        unseen += silent(path, payload, container.read)
        payload[bit // 8] ^= 1 << (bit % 8)
    record("files", "one flipped bit, read in silence", count, unseen, 0)
    assert unseen == 0


def test_every_truncation_is_noticed(path, size, record):
    payload = path.read_bytes()
    count = BARS["truncations"][size]
    lengths = [*range(20), *np.random.default_rng(0).integers(20, len(payload), count - 20)]
    unseen = sum(silent(path, payload[:length], gaussjax.load) for length in lengths)
    record("files", "truncated, read in silence or with another error", count, unseen, 0)
    assert unseen == 0


def saved(path, limit):
    """Whether a save succeeds with files limited to `limit` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Without this the signal would end the process before the write could fail.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        save(path, 8)
    except OSError:
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    return True


def test_full_disk_leaves_the_older_file(path, size, record):
    before = path.read_bytes()
    count, lost = BARS["full"][size], 0
    for limit in np.random.default_rng(0).integers(0, len(before) - 1, count):
        lost += saved(path, int(limit)) or path.read_bytes() != before or temporaries(path) != []
    record("files", "disk full (RLIMIT_FSIZE), older file lost", count, lost, 0)
    assert lost == 0
    assert saved(path, 10**9)


def test_four_writers_and_a_reader_never_meet_half_a_file(path, repository, size, record):
    with writers(path, 20, repository) as ask:
        for i in range(4 if size else 2):
            ask(10 * (i + 1))
        found = [value_of(path) for _ in range(BARS["reads"][size])]
    seen, bad = set(found), found.count(None)
    record("files", f"reads beside four writers ({len(seen)} different files seen), torn", len(found), bad, 0)
    assert len(seen) >= 8 or not size
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
    save(path, 8)
    assert calls == [("fsync", "whole file"), ("replace", path.name), ("fsync", "folder")]


def test_temporaries_of_dead_writers_go_and_those_of_living_and_foreign_ones_stay(path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = atomic_file.temporary_path(path).name.rpartition("-")[0]
    old = time.time() - 25 * 3600
    # Writer, and whether its temporary file stays: by name, and by age where the writer may run elsewhere.
    rows = {
        f"{here}-{dead.pid}.abc": False,
        f"{here}-{os.getppid()}.abc": True,
        f".{path.name}.writer-anotherhost-{dead.pid}.abc": True,
        f".{path.name}.writer-{dead.pid}.abc": True,
        f".{path.name}.writer-oldhost-{os.getppid()}.abc": False,
        ".other.safetensors.writer-1.abc": True,
    }
    for name in rows:
        (path.parent / name).write_bytes(b"half")
        if "oldhost" in name:
            os.utime(path.parent / name, (old, old))
    save(path, 7)
    assert {file.name for file in temporaries(path)} == {name for name, stays in rows.items() if stays}

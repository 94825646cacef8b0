"""The folder of a run has one owner at a time, and a dead owner does not keep it."""

import os
import subprocess
import sys

import pytest

from gaussjax.training.run import loop

HOLD = """
import os, sys, time
from pathlib import Path
from gaussjax.training.run import loop
with loop.hold(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(os.getpid(), child, flush=True)
    time.sleep(600)
"""


def test_a_held_folder_is_refused_with_its_owner_and_free_again_after_a_kill(tmp_path, repository):
    """A forked process of the owner lives on, as a simulator may, and does not keep the folder."""
    command = [sys.executable, "-W", "ignore", "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
        number, child = map(int, process.stdout.readline().split())
        text = rf"^{tmp_path} is in use by process {number} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\. Wait"
        for refuse in (loop.refuse_held, lambda folder: loop.hold(folder).__enter__()):
            with pytest.raises(loop.HeldError, match=text):
                refuse(tmp_path)
        process.kill()
        process.wait()
        os.kill(child, 0)
        with loop.hold(tmp_path) as notice:
            assert notice == ""
            assert f"process {os.getpid()} on" in (tmp_path / loop.LOCK).read_text()
        os.kill(child, 9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_never_hold_a_folder_at_once(tmp_path, repository):
    """Two processes take and leave a folder again and again; two owners at once could not both make a folder in it."""
    program = """
import os, sys, time
from pathlib import Path
from gaussjax.training.run import loop
folder, took = Path(sys.argv[1]), 0
while took < 100:
    try:
        with loop.hold(folder):
            (folder / "mine").mkdir()
            (folder / "mine").rmdir()
            took += 1
    except loop.HeldError:
        pass
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=repository) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]


@pytest.mark.parametrize("text", ["", "\x1b]0;title\x07", "process 1", "nothing"])
def test_other_text_in_a_lock_is_not_printed(text, tmp_path):
    with loop.hold(tmp_path):
        (tmp_path / loop.LOCK).write_text(text)
        with pytest.raises(loop.HeldError, match=r"is in use by another process\. Wait"):
            loop.refuse_held(tmp_path)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_lock_that_is_no_file_is_refused_and_left_alone(kind, tmp_path):
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    other.write_text("mine")
    make = {"link": lambda path: path.symlink_to(other), "folder": os.mkdir, "pipe": os.mkfifo}[kind]
    make(folder / loop.LOCK)
    with pytest.raises(loop.HeldError, match="expected the file of a lock, got a link"), loop.hold(folder):
        pass
    assert other.read_text() == "mine"


def test_a_file_system_without_locks_is_used_with_a_notice(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(loop.fcntl, "flock", none)
    with loop.hold(tmp_path) as notice:
        assert notice.endswith("no locks (Function not implemented). Start no second training in it.")

"""Atomic writes of files, and removal of the temporary files that crashed writes left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


def write(path: Path, payload: bytes) -> None:
    """Writes a file through a temporary file, so that a crash leaves either the old or the new content."""
    remove_stale(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.writer-{os.getpid()}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def link(path: Path, other: Path) -> None:
    """Gives a file a second, new name; where the file system has no links, the second name is a copy."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def remove_stale(path: Path) -> None:
    """Removes temporary files that `write` left behind for this path because its process ended too early."""
    prefix = f".{path.name}.writer-"
    for temporary in path.parent.glob(f"{prefix}*"):
        process = temporary.name[len(prefix) :].partition(".")[0]
        if process.isdecimal() and not _alive(int(process)):
            with contextlib.suppress(OSError):
                temporary.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # The process exists but belongs to another user.
    return True

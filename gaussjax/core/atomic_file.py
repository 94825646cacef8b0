"""Files replaced whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write(path: Path, payload: bytes) -> None:
    """Replaces a file by other bytes: temporary file, flush, rename, flush of the folder.

    The temporary file carries the number of its process. What writers that are no more have left
    behind is removed.
    """
    remove_stale(path)
    handle, temporary = tempfile.mkstemp(prefix=f"{_prefix(path)}{os.getpid()}.", dir=path.parent)
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


def _prefix(path: Path) -> str:
    return f".{path.name}.writer-"


def remove_stale(path: Path) -> None:
    """Removes what writers of a file that are no more have left beside it."""
    prefix = _prefix(path)
    for left in path.parent.glob(f"{prefix}*"):
        process = left.name[len(prefix) :].partition(".")[0]
        # A process of that number that is not ours counts as alive: it may be writing.
        if process.isdecimal() and not _alive(int(process)):
            with contextlib.suppress(OSError):
                left.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True

"""One owner at a time for the folder of a run, by a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"
# Text in the lock. Other text may come from anyone, and is not printed.
_HOLDER = re.compile(r"process \d{1,10} on [\w.-]{1,255} since [\d-]{10} [\d:]{8} UTC")
_held: set[int] = set()


class HeldError(RuntimeError):
    """Another process works in the folder of a run."""


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[str]:
    """Makes the folder if there is none, and this process its owner until the block ends.

    Yields:
        An empty text; or a sentence for the user if the file system has no locks, so that nothing holds the folder.

    Raises:
        HeldError: Another process is the owner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, notice = _acquire(folder / LOCK, os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    try:
        host = re.sub(r"[^\w.-]", "-", platform.node()) or "localhost"
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {host} since {since}\n".encode(), 0)
        yield notice
    finally:
        # A forked process that leaves the block is not the owner.
        if descriptor in _held:
            _held.remove(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(folder / LOCK)
            os.close(descriptor)


def refuse_held(folder: Path) -> None:
    """Raises HeldError if another process is the owner of the folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.close(_acquire(folder / LOCK, os.O_RDONLY)[0])


def _acquire(path: Path, flags: int) -> tuple[int, str]:
    """Locks a file without waiting; returns its descriptor, and a sentence if the file system has no locks."""
    while True:
        descriptor, notice = _open(path, flags), ""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _HOLDER.match(os.pread(descriptor, 512, 0).decode("utf-8", "replace"))
            os.close(descriptor)
            raise HeldError(
                f"{path.parent} is in use by {found[0] if found else 'another process'}. Wait for its end, or stop it."
            ) from None
        except OSError as error:
            notice = f"{path.parent}: its file system has no locks ({error.strerror}). Start no second training in it."
        # The owner before may have removed this file after it was opened.
        with contextlib.suppress(OSError):
            if notice or os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return descriptor, notice
        os.close(descriptor)


def _open(path: Path, flags: int) -> int:
    """Opens a regular file; it does not follow a link out of the folder, nor wait at a pipe."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise HeldError(f"{path}: expected the file of a lock, got a link, a folder or a device. Remove it.")


def _forget() -> None:
    """Closes the locks in a forked process, which would otherwise keep them after the end of the owner."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)

"""Atomic writes of files, and removal of the temporary files that crashed writes left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# A temporary file of another machine or container stays for this many seconds, since its writer may be alive.
_FOREIGN_SECONDS = 24 * 3600


def write(path: Path, payload: bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file through a temporary file, so that a crash leaves either the old or the new content.

    The payload is the content, or a function that writes it to an open file.

    A new file has the mode that the umask allows, and a replaced file keeps its mode. A link is replaced; the file to
    which it points is unchanged.

    Raises:
        OSError: The file cannot be written, or the path is a folder, a device or a FIFO; the error names the path.
    """
    try:
        _write(path, payload)
    except OSError as error:
        # The user knows the path or its missing folder, but no temporary file.
        missing = isinstance(error, FileNotFoundError) and not path.parent.exists()
        raise OSError(error.errno, error.strerror, str(path.parent if missing else path)) from error


def _write(path: Path, payload: bytes | Callable[[BinaryIO], None]) -> None:
    mode = _mode(path)
    remove_stale(path)
    temporary = temporary_path(path)
    # The umask applies to the mode here.
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with open(handle, "w+b") as file:
            if mode is not None:
                os.fchmod(handle, mode)
            if callable(payload):
                payload(file)
            else:
                file.write(payload)
            file.flush()
            os.fsync(handle)
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


def temporary_path(path: Path) -> Path:
    """An unused path beside a path; its name holds the machine and the process, for `remove_stale`."""
    return path.with_name(f"{_prefix(path)}{_here()}-{os.getpid()}.{secrets.token_hex(4)}")


def link(path: Path, other: Path) -> None:
    """Gives a file a second, new name; where the file system has no links, the second name is a copy."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def remove_stale(path: Path) -> None:
    """Removes temporary files of this path whose process on this machine ended, or that are older than a day."""
    prefix, here = _prefix(path), _here()
    # A folder may be writable without being readable.
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if not entry.name.startswith(prefix):
                continue
            machine, _, process = entry.name[len(prefix) :].partition(".")[0].rpartition("-")
            with contextlib.suppress(OSError):
                if machine == here and process.isdecimal():
                    stale = not _alive(int(process))
                else:
                    stale = time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_SECONDS
                if stale:
                    os.unlink(entry.path)


def _prefix(path: Path) -> str:
    # Shortened, because a file system allows names of 255 bytes.
    return f".{os.fsdecode(os.fsencode(path.name)[:150])}.writer-"


def _here() -> str:
    """Name of this machine; on Linux with its boot and container, because processes of others have the same numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        container = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = container = ""
    return re.sub(r"[^A-Za-z0-9]", "", f"{socket.gethostname()[:40]}{boot}{container}")


def _mode(path: Path) -> int | None:
    """Mode of the file that will be replaced, or None; raises OSError for a folder, a device or a FIFO."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status.st_mode & 0o777


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # The process exists but belongs to another user.
    return True

"""Handling of Ctrl-C and SIGTERM, so that a training ends after the running update."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from gaussjax.training import parallel


class Interruption:
    """The user's request to stop: a first signal lets the running update finish, a second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[Interruption]:
        """Handles Ctrl-C and SIGTERM until the block ends; outside the main thread it does nothing."""
        main = threading.current_thread() is threading.main_thread()
        names = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {name: signal.signal(name, self._handle) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def requested_anywhere(self) -> bool:
        """True if the user of any process asked to stop, so that all processes stop after the same update."""
        return parallel.any_of(self.requested)

    def _handle(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def resend_lost_interrupts() -> Iterator[None]:
    """Sends a Ctrl-C again if Python dropped it, until the block ends.

    Python drops exceptions that are raised in a finaliser or in a callback of the garbage collector. JAX has such a
    callback, so a single Ctrl-C can be lost.
    """
    before = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # A timer sends the signal later: sent now, it would be raised in the same callback and dropped again.
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before

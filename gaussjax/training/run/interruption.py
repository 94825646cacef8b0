"""Ctrl-C and SIGTERM: a training ends after the running update."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gaussjax.training.parallel import processes

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# After which a lost Ctrl-C comes again, seconds.
_AGAIN = 0.05


class Interruption:
    """Whether the user wants to stop.

    The first Ctrl-C or SIGTERM lets the running update finish, so that what is saved can be
    resumed exactly; the second one stops at once and the update is dropped.
    """

    asked = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[Interruption]:
        """Takes the two signals until the block is left."""
        # Only the main thread may take signals.
        main = threading.current_thread() is threading.main_thread()
        names = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {name: signal.signal(name, self._take) for name in names}
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def agreed(self) -> bool:
        """Whether the user wants any process to stop: all of them stop after the same update."""
        return processes.any_of(self.asked)

    def _take(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Lets no Ctrl-C get lost until the block is left.

    Python drops what is raised in a finaliser and in a callback of the garbage collection, a
    KeyboardInterrupt too, and JAX has such a callback. A Ctrl-C that ended there comes again.
    """
    before = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
            return
        # Not from here, where it would be lost once more.
        threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGINT)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before

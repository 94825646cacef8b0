"""Ctrl-C and SIGTERM: a training ends after the running update."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from gaussjax.training import processes


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

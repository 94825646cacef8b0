"""Start of the command `gaussjax`. It is no part of the package, because importing the package imports JAX."""

import os
import signal
import sys
from collections.abc import Callable


def answer_interrupts() -> Callable[[], object]:
    """Answers a Ctrl-C with a line and the end of the process; returns a function that restores the earlier handler."""

    def stop(*_: object) -> None:
        # An exception could be lost in the middle of an import, and nothing has to be cleaned up.
        os.write(sys.stderr.fileno(), b"\ngaussjax: interrupted while it was loading; nothing was written.\n")
        os._exit(130)

    before = signal.signal(signal.SIGINT, stop)
    return lambda: signal.signal(signal.SIGINT, before)


# The package imports this module first if `python -m gaussjax.cli.main` imports the package.
loaded = answer_interrupts() if sys.argv[:1] == ["-m"] else lambda: None


def main() -> None:
    """Imports the command and runs it; a Ctrl-C during the import ends it with a line in place of a traceback."""
    restore = answer_interrupts()
    try:
        from gaussjax.cli.main import main as run
    except ImportError as error:
        sys.exit(f"gaussjax: {error}")
    restore()
    run()


if __name__ == "__main__":
    main()

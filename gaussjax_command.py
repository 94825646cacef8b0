"""Start of the command `gaussjax`. It is no part of the package, because importing the package imports JAX."""

import os
import signal
import sys


def main() -> None:
    """Imports the command and runs it; a Ctrl-C during the import ends it with a line in place of a traceback."""

    def stop(*_: object) -> None:
        # An exception could be lost in the middle of an import, and nothing has to be cleaned up.
        os.write(sys.stderr.fileno(), b"\ngaussjax: interrupted while it was loading; nothing was written.\n")
        os._exit(130)

    before = signal.signal(signal.SIGINT, stop)
    from gaussjax.cli.main import main as run

    signal.signal(signal.SIGINT, before)
    run()


if __name__ == "__main__":
    main()

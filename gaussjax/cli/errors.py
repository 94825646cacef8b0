"""What the user of the command line can put right, said in one line."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator


class UsageError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turns the framed errors of the parser into one line."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as error:
        if error.code in (0, None):
            raise
        raise UsageError(f"{_one_line(printed.getvalue())} See gaussjax --help.") from None


def _one_line(framed: str) -> str:
    """The message of a framed error, and the option that was perhaps meant."""
    rows = [line.strip("│╭╮╰╯ ") for line in framed.splitlines()[1:]]
    # A row of lines only is a rule; where the terminal has no frames, one follows the title too.
    body = itertools.dropwhile(lambda row: not row.strip("─-"), rows)
    message = " ".join(itertools.takewhile(lambda row: row.strip("─-"), body))
    message = re.sub(r"^Error parsing (\S*__\S*|[A-Z]\w+): ", "", message).rstrip(".")
    meant = next((rows[i + 1].split()[0] for i, row in enumerate(rows) if row.startswith("Perhaps you meant")), None)
    return f"{message}. Perhaps you meant {meant}." if meant else f"{message}."

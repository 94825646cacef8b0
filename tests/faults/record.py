"""Table of `make test-faults`: each bar with its measured count."""

import json
import os
import platform
import sys
from pathlib import Path


def bar(group: str, what: str, tried: int, measured: float, allowed: float, unit: str = "") -> None:
    """Adds a line to the file named by FAULTS_RECORD, if that is set.

    Args:
        group: Heading in the table.
        what: Action, and the failure that is counted.
        tried: Number of trials.
        measured: Number of failures, or a figure in `unit`.
        allowed: Largest allowed figure.
        unit: Unit of a figure that is not a count.
    """
    path = os.environ.get("FAULTS_RECORD")
    if path:
        line = {"group": group, "what": what, "tried": tried, "measured": measured, "allowed": allowed, "unit": unit}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def table(lines: list[dict]) -> str:
    """Page of the table, as Markdown."""
    import jax

    import gaussjax

    rows = [
        f"| {line['group']} | {line['what']} | {line['tried']:,} | {line['measured']:g}{line['unit']} | "
        f"{line['allowed']:g}{line['unit']} | {'yes' if line['measured'] <= line['allowed'] else '**no**'} |"
        for line in sorted(lines, key=lambda line: line["group"])
    ]
    head = [
        "# Faults",
        "",
        f"Written by `make test-faults`: gaussjax {gaussjax.__version__}, jax {jax.__version__}, Python "
        f"{platform.python_version()}, {platform.system()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at "
        f"the end. Measured is the number of failures, or a figure with its unit.",
        "",
        "| | what | tried | measured | bar | reached |",
        "|---|---|---:|---:|---:|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(table([json.loads(line) for line in source.read_text().splitlines()]), encoding="utf-8")

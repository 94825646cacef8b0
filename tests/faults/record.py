"""The table of `make test-faults`: every bar with the count that was measured, written by the run itself."""

from __future__ import annotations

import json
import os
from pathlib import Path


def bar(group: str, what: str, tried: int, failed: int, allowed: float, unit: str = "") -> None:
    """Adds a line to the file that FAULTS_RECORD names; nothing where it is not set."""
    path = os.environ.get("FAULTS_RECORD")
    if path:
        line = {"group": group, "what": what, "tried": tried, "failed": failed, "allowed": allowed, "unit": unit}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

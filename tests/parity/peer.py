"""Runs a file beside this one in skrl's own environment, for importing skrl changes torch for the whole process."""

import os
import subprocess
from pathlib import Path

import numpy as np


def run(script: str, folder: Path) -> dict[str, np.ndarray]:
    """What the script has written; with the Python of `make .peers/skrl/.ready`, or another one in SKRL_PYTHON."""
    path = folder / "results.npz"
    execute(script, path)
    return dict(np.load(path))


def execute(script: str, *arguments: object) -> str:
    """Runs a script with the Python of skrl, which imports gaussjax from this checkout; returns what it prints."""
    here = Path(__file__).resolve().parent
    python = os.environ.get("SKRL_PYTHON", str(here.parent.parent / ".peers/skrl/bin/python"))
    assert Path(python).exists(), f"{python} is missing: run `make .peers/skrl/.ready`, or set SKRL_PYTHON"
    # Threads of torch that share the processor with other tests wait for each other most of the time.
    environment = {**os.environ, "PYTHONPATH": str(here.parent.parent), "OMP_NUM_THREADS": "1"}
    command = [python, str(here / script), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout

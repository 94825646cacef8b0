"""Runs a file beside this one in skrl's own environment, for importing skrl changes torch for the whole process."""

import os
import subprocess
from pathlib import Path

import numpy as np


def run(script: str, folder: Path) -> dict[str, np.ndarray]:
    """What the script has written; with the Python of `make .peers/skrl/.ready`, or another one in SKRL_PYTHON."""
    here = Path(__file__).resolve().parent
    python = os.environ.get("SKRL_PYTHON", str(here.parent.parent / ".peers/skrl/bin/python"))
    assert Path(python).exists(), f"{python} is missing: run `make .peers/skrl/.ready`, or set SKRL_PYTHON"
    path = folder / "results.npz"
    finished = subprocess.run([python, str(here / script), str(path)], capture_output=True, text=True, timeout=1200)
    assert finished.returncode == 0, finished.stderr
    return dict(np.load(path))

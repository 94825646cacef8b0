"""Runs a file beside this one in skrl's own environment, for importing skrl changes torch for the whole process."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def run(script: str, folder: Path) -> dict[str, np.ndarray]:
    """What the script has written; with the Python of `make .peers/skrl/.ready`, or another one in SKRL_PYTHON."""
    path = folder / "results.npz"
    execute(script, path)
    return dict(np.load(path))


def command(script: object, *arguments: object) -> dict[str, Any]:
    """Options of `subprocess` that run a script with the Python of skrl, which imports gaussjax from this checkout."""
    python = os.environ.get("SKRL_PYTHON", str(REPOSITORY / ".peers/skrl/bin/python"))
    assert Path(python).exists(), f"{python} is missing: run `make .peers/skrl/.ready`, or set SKRL_PYTHON"
    # Threads of torch that share the processor with other tests wait for each other most of the time.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return {"args": [python, str(HERE / str(script)), *map(str, arguments)], "text": True, "env": environment}


def execute(script: object, *arguments: object) -> str:
    """Runs a script and returns what it prints."""
    finished = subprocess.run(**command(script, *arguments), capture_output=True, timeout=3600, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def blocks(language: str) -> list[str]:
    """The blocks of one language on the migration page."""
    page = (REPOSITORY / "docs/migration.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def moved(framework: str) -> tuple[str, list[str]]:
    """skrl's example on Pendulum-v1 with the model that the migration page puts into it, and the new lines."""
    original = (HERE / "skrl_pendulum.py").read_text(encoding="utf-8")
    lines = blocks("diff")[("torch", "jax").index(framework)].splitlines()
    removed, added = ([line[1:] for line in lines if line[0] == sign] for sign in "-+")
    assert original.count("\n".join(removed)) == 1
    return original.replace("\n".join(removed), "\n".join(added)), added

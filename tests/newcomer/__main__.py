"""Does what newcomers do, in empty folders and environments: `python -m tests.newcomer [RUN …]`.

It prints and writes the seconds of each step. The seconds of a processor do not count what other programs used.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.newcomer.runs import RUNS, Run, Step
from tests.test_pages import REPOSITORY

PAGE = REPOSITORY / "benchmarks" / "results" / "newcomer.md"
HEAD = "| run | step | seconds | seconds of a processor | printed |\n| --- | --- | ---: | ---: | --- |\n"
# Settings of this shell that a newcomer does not have. The package cache is warm.
FOREIGN = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "COLUMNS")


def interpreter(version: str) -> str | None:
    """Path of a Python of this version, from PATH or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for path in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))):
        if path:
            asked = subprocess.run([path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
            if asked.returncode == 0:
                return asked.stdout.strip()
    return None


def built(folder: Path) -> dict[str, str]:
    """Builds the wheel and the archive of the last commit."""
    archive = folder / "gaussjax.zip"
    subprocess.run(["git", "archive", "--prefix=gaussjax/", "-o", archive, "HEAD"], cwd=REPOSITORY, check=True)
    shutil.unpack_archive(archive, folder)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, folder / "gaussjax"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", flush=True)
    return {"WHEEL": str(wheel), "ARCHIVE": str(archive), "REPOSITORY": str(REPOSITORY)}


def take(step: Step, folder: Path, variables: dict[str, str]) -> tuple[float, float, str]:
    """Seconds of a step, seconds of a processor, and what it printed; raises RuntimeError if it stumbled."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", step.types],
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    found = re.search(step.prints, finished.stdout, re.MULTILINE)
    if finished.returncode != step.code or not found:
        raise RuntimeError(f"exit code {finished.returncode}, after:\n{finished.stdout[-3000:]}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, found[0]


def do(name: str, run: Run, variables: dict[str, str]) -> tuple[list[str], bool]:
    """Takes the steps of a run up to the first that stumbles; returns their rows, and whether none stumbled."""
    rows = []
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "work"
        folder.mkdir()
        for file, text in run.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        own = {key: value for key, value in os.environ.items() if key not in FOREIGN and not key.startswith("JAX_")}
        own |= variables | {"HOME": home, "PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"}
        for step in run.steps:
            try:
                seconds, used, printed = take(step, folder, own)
            except RuntimeError as error:
                print(f"{name}: {step.does}: {error}", flush=True)
                return [*rows, f"| {name} | {step.does} | | | stumbled |"], False
            printed = printed.replace("|", "\\|").replace(home, "…")
            rows.append(f"| {name} | {step.does} | {seconds:.0f} | {used:.0f} | {printed} |")
            print(rows[-1], flush=True)
    return rows, True


def write(name: str, rows: list[str]) -> None:
    """Writes the rows of a run to the page, and leaves those of other runs."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else []
    of = {other: [line for line in lines if line.startswith(f"| {other} |")] for other in RUNS} | {name: rows}
    PAGE.write_text(HEAD + "".join(f"{row}\n" for other in RUNS for row in of[other]), encoding="utf-8")


def main(names: list[str]) -> int:
    """Does the named runs, or all, and writes their rows. Returns the number of runs that stumbled."""
    if unknown := [name for name in names if name not in RUNS]:
        print(f"runs: expected some of {', '.join(map(repr, RUNS))}, got {', '.join(unknown)}")
        return len(unknown)
    cache = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True)
    stumbled = 0
    with tempfile.TemporaryDirectory() as folder:
        variables = built(Path(folder)) | {"PIP_CACHE_DIR": cache.stdout.strip()}
        for name in names or RUNS:
            python = interpreter(RUNS[name].python)
            if python is None:
                print(f"{name}: skipped, because there is no Python {RUNS[name].python}", flush=True)
                continue
            rows, arrived = do(name, RUNS[name], variables | {"PYTHON": python})
            stumbled += not arrived
            write(name, rows)
    print(f"{stumbled} of {len(names or RUNS)} runs stumbled")
    return stumbled


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

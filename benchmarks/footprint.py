"""Memory of trainings and of compiled programs, size of the package, time to import it, and time of its tests."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import compiled, peers, ppo, report, runner, sac, startup

_SAC = {"environment": sac.ENVIRONMENTS[0], "num_steps": 256, "batch_size": 256, "learning_starts": 256}
# Title, function, case, and contenders, of which the first is gaussjax.
TRAININGS: tuple[tuple[str, str, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("PPO, {environment}", "ppo", ppo.CASES[1], ("gaussjax-command", "sbx-training", "sb3-training")),
    ("SAC, {environment}", "sac", _SAC, ("gaussjax-training", "sbx-training", "sb3-training")),
    *(
        ("compiled PPO, {num_envs} × {num_steps}", "compiled", case, ("gaussjax-training", "rejax"))
        for case in compiled.CASES
    ),
)
_CALLS = 3


def run(options: argparse.Namespace) -> dict[str, Any]:
    # --sizes selects parts.
    asked = list(_PARTS) if options.sizes is None else options.sizes.split(",")
    missing: dict[str, str] = {}
    return {**{part: _PARTS[part](options, missing) for part in asked}, "not_measured": missing}


def _memory(options: argparse.Namespace, missing: dict[str, str]) -> list[dict[str, Any]]:
    """Bytes of each training, which has a process of its own."""
    found = []
    for title, function, case, contenders in TRAININGS:
        row: dict[str, Any] = {"title": title.format(**case), "peak": {}, "stated": {}}
        for name in peers.chosen(contenders, options.peers):
            contender = peers.CONTENDERS[name]
            try:
                worker = runner.Worker(contender, options)
            except runner.ContenderError as error:
                missing[contender.title] = str(error)
                continue
            try:
                if function == "compiled":
                    row["stated"][name] = worker.ask(build="stated", case=case)["check"][0]
                worker.ask(build=function, case={**case, **contender.options})
                worker.ask(run=_CALLS)
                row["peak"][name] = worker.ask(memory=True)["peak"]
            except runner.ContenderError as error:
                missing[f"{row['title']}, {contender.title}"] = str(error)
            finally:
                worker.stop()
        found.append(row)
    return found


def _package(options: argparse.Namespace, missing: dict[str, str]) -> dict[str, int]:
    """Bytes of the wheel, and bytes and number of the files that pip installs from it."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, installed = Path(folder) / "wheels", Path(folder) / "installed"
        try:
            _run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(runner.ROOT))
            (wheel,) = wheels.glob("*.whl")
            _run("pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(installed), str(wheel))
        except runner.ContenderError as error:
            missing["the package"] = str(error)
            return {}
        files = [path.stat().st_size for path in installed.rglob("*") if path.is_file()]
        return {"wheel": wheel.stat().st_size, "installed": sum(files), "files": len(files)}


def _imports(options: argparse.Namespace, missing: dict[str, str]) -> dict[str, Any]:
    alone = argparse.Namespace(**{**vars(options), "peers": "none"})
    times, failed = startup.imports(alone, options.processes or 9)
    missing |= failed
    return {name: runner.summary([seconds], seconds[0]) for name, seconds in times.items()}


def _tests(options: argparse.Namespace, missing: dict[str, str]) -> list[dict[str, Any]]:
    """Seconds of `make test` with an empty cache of compiled programs, and with that of the first run."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "MAKE", "MFLAGS"))
    }
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for title in ("with an empty cache", "again"):
            start = time.perf_counter()
            done = subprocess.run(
                ["make", "test"],
                cwd=runner.ROOT,
                env={**kept, "JAX_COMPILATION_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds, said = time.perf_counter() - start, done.stdout.strip().splitlines()
            if done.returncode:
                missing[f"make test, {title}"] = said[-1] if said else done.stderr.strip()[-200:]
                break
            found.append({"title": title, "seconds": seconds, "said": said[-1]})
    return found


_PARTS: dict[str, Callable[[argparse.Namespace, dict[str, str]], Any]] = {
    "memory": _memory,
    "package": _package,
    "imports": _imports,
    "tests": _tests,
}


def _run(*module: str) -> None:
    done = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True, check=False)
    if done.returncode:
        raise runner.ContenderError((done.stderr.strip() or "it failed").splitlines()[-1])


def markdown(results: dict[str, Any]) -> str:
    parts = []
    if "memory" in results:
        names = list(dict.fromkeys(name for *_, contenders in TRAININGS for name in contenders))
        parts += [
            f"Peak resident memory of a process that trains, after {_CALLS} calls: the libraries, the compiler and the "
            "experience. SAC has a buffer for a million steps, and the buffers of SB3 and SBX take memory only as they "
            "fill.",
            _bytes(results["memory"], "peak", names, "MiB resident"),
            "Memory that XLA states for the compiled program of four updates: arguments, results and temporary arrays.",
            _bytes(results["memory"], "stated", names, "MiB of the program"),
        ]
    rows = []
    if package := results.get("package"):
        rows.append(["the wheel", f"{package['wheel'] / 2**10:.0f} KiB"])
        rows.append([f"installed, {package['files']} files", f"{package['installed'] / 2**10:.0f} KiB"])
    for name, times in results.get("imports", {}).items():
        rows.append([f"import of {name}", report.duration(times["median"])])
    for test in results.get("tests", ()):
        rows.append([f"`make test` {test['title']}: {test['said'].partition(' in ')[0]}", f"{test['seconds']:.0f} s"])
    if rows:
        parts.append(report.grid(["", ""], rows))
    return "\n\n".join([*parts, report.not_measured(results["not_measured"])] if results["not_measured"] else parts)


def _bytes(rows: Sequence[Mapping[str, Any]], key: str, names: Sequence[str], head: str) -> str:
    shown = [row for row in rows if row[key]]
    known = [name for name in names if any(name in row[key] for row in shown)]
    cells = [
        [row["title"], *(f"{row[key][name] / 2**20:,.1f}" if name in row[key] else "–" for name in known)]
        for row in shown
    ]
    return report.grid([head, *(peers.CONTENDERS[name].title for name in known)], cells)

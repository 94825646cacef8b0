"""Time from the start of a process to its import, its first action and its first update."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers, report, runner

_BASE = "jax, flax.linen and optax"
# Row title, and the environment and statement of the import; the bar compares the first two rows.
IMPORTS = {
    "gaussjax": ("gaussjax", "import gaussjax"),
    _BASE: ("gaussjax", "import jax, flax.linen, optax"),
    "distrax": ("distrax", "import jax, flax.linen, distrax"),
    "skrl (torch)": ("skrl-torch", "import skrl.models.torch"),
    "skrl (jax)": ("skrl-jax", "import skrl.models.jax"),
    "SB3": ("sb3", "import stable_baselines3"),
    "brax": ("brax", "import brax.training.agents.ppo.networks"),
    "TorchRL": ("torchrl", "import torchrl.modules"),
}
_ACT = """
import time, jax, numpy as np, gaussjax
policy = gaussjax.gaussian(gaussjax.networks.MLP(), 60, gaussjax.spaces.Box(-1.0, 1.0, (8,)))
params = policy.init(jax.random.key(0))
np.asarray(policy.act(params, jax.random.key(1), np.zeros((16, 60), np.float32)).actions)
print(time.time())
"""
_UPDATE = """
import time, jax
from gaussjax import envs
from gaussjax.training import ppo
config = ppo.Config()
algorithm = ppo.make(envs.make_vector("Pendulum-v1", config.num_envs), config)
algorithm.step(algorithm.init(jax.random.key(0)))
print(time.time())
"""
_TRAIN = """
from gaussjax.cli.main import main
main(["train", "ppo", "Pendulum-v1", "--seed", "0", "--out", {out!r}])
"""
PROGRAMS = {"the first action": _ACT, "the first PPO update": _UPDATE, "train": _TRAIN}
_KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
IMPORT_BAR, TRAIN_BAR = 1.1, 3.0


def run(options: argparse.Namespace) -> dict[str, Any]:
    repetitions = options.processes or 9
    times, missing = imports(options, repetitions)
    return {
        "not_measured": missing,
        "imports": {name: runner.summary([seconds], seconds[0]) for name, seconds in times.items()},
        "first": first(options, max(1, repetitions // 2), list(PROGRAMS), missing),
    }


def first(
    options: argparse.Namespace, repetitions: int, programs: Sequence[str], missing: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Seconds of the programs until they have done something, with an empty cache and with the cache of that run."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(repetitions):
        for name in programs:
            code = PROGRAMS[name]
            with tempfile.TemporaryDirectory() as cache:
                for state in ("cold", "warm"):
                    variables = runner.surroundings(options.device, JAX_COMPILATION_CACHE_DIR=cache, **_KEEP_ALL)
                    try:
                        seconds = _train(variables) if name == "train" else _run(sys.executable, code, variables)
                    except runner.ContenderError as error:
                        missing[name] = str(error)
                        break
                    found.setdefault(name, {}).setdefault(state, []).append(seconds)
    return {
        name: {state: runner.summary([times], times[0]) for state, times in states.items()}
        for name, states in found.items()
    }


def imports(options: argparse.Namespace, repetitions: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    asked = None if options.peers is None else options.peers.split(",")
    times: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    # The first import reads the files from the disk and is discarded.
    for repetition in range(repetitions + 1):
        for name, (contender, statement) in IMPORTS.items():
            if name in missing or not (asked is None or contender == "gaussjax" or contender in asked):
                continue
            python = runner.interpreter(peers.CONTENDERS[contender], options.environments)
            if python is None:
                missing[name] = "no environment: make it with `make bench-peers`"
                continue
            code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
            try:
                seconds = _printed(python, code, runner.surroundings(options.device))
            except runner.ContenderError as error:
                missing[name] = str(error)
                continue
            if repetition:
                times.setdefault(name, []).append(seconds)
    return times, missing


def _run(python: str, code: str, variables: dict[str, str]) -> float:
    """Seconds from the start of the process to the time that it prints."""
    start = time.time()
    return _printed(python, code, variables) - start


def _printed(python: Any, code: str, variables: dict[str, str]) -> float:
    command = [str(python), "-c", code]
    done = subprocess.run(command, env=variables, cwd=runner.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise runner.ContenderError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])


def _train(variables: dict[str, str]) -> float:
    """Seconds from the start of `gaussjax train` until the first row of its metrics is on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", _TRAIN.format(out=str(out))]
        start = time.perf_counter()
        with subprocess.Popen(
            command, env=variables, cwd=runner.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                while not _has_row(out / "metrics.csv"):
                    if process.poll() is not None:
                        raise runner.ContenderError(process.communicate()[1].strip()[-200:])
                    time.sleep(0.005)
                return time.perf_counter() - start
            finally:
                process.kill()


def _has_row(file: Path) -> bool:
    return file.exists() and file.read_text().count("\n") >= 2


def markdown(results: dict[str, Any]) -> str:
    imports, first = results["imports"], results["first"]
    ours = imports["gaussjax"]["median"]
    rows = [
        [name, f"{1e3 * times['median']:.0f}", report.spread(times, 1e3), f"{ours / times['median']:.2f}×"]
        for name, times in imports.items()
    ]
    parts = [
        "### Import\n\nEach in a fresh process, in turns.",
        report.grid(["", "median, ms", "quartiles", "ours ÷ theirs"], rows),
    ]
    titles = {"train": "`gaussjax train`: its first update has ended"}
    rows = [
        [titles.get(name) or name]
        + [f"{states[state]['median']:.2f} ({report.spread(states[state], 1)})" for state in ("cold", "warm")]
        for name, states in first.items()
    ]
    parts += [
        "### From the start of the process, seconds\n\nCold: nothing was compiled before. Warm: the compilation cache "
        "is filled. PPO is Pendulum-v1 with the default options.",
        report.grid(["until", "cold", "warm"], rows),
    ]
    parts += [report.not_measured(results["not_measured"])] if results["not_measured"] else []
    kept = []
    if _BASE in imports:
        reached = ours / imports[_BASE]["median"]
        kept.append(
            [
                "`import gaussjax` against its base",
                f"{IMPORT_BAR}×",
                f"{reached:.2f}×",
                report.verdict(reached <= IMPORT_BAR, results),
            ]
        )
    if "train" in first:
        reached = first["train"]["warm"]["median"]
        kept.append(
            [
                "`gaussjax train`, warm, until its first update",
                f"{TRAIN_BAR} s",
                f"{reached:.2f} s",
                report.verdict(reached <= TRAIN_BAR, results),
            ]
        )
    parts.append(report.grid(["bar", "at most", "reached", ""], kept))
    return "\n\n".join(parts)

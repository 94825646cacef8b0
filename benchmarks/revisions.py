"""`python -m benchmarks.revisions OLD NEW`: time of two revisions, each a checkout, as ratios new ÷ old.

Both run in the present environment and take turns. Each revision measures itself by its own `benchmarks`, so that names
may have changed between them. Rows of whole processes (the import, the first update) are measured by `startup`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import compiled, machine, peers, ppo, recurrent, report, runner, sac

# Title, contender, its function, the case.
Row = tuple[str, str, str, Mapping[str, Any]]
_SAC = {"num_steps": 64, "batch_size": 256, "learning_starts": 64}
ROWS: list[Row] = [
    *((f"act {n}", "gaussjax", "act", {"batch": n, "resident": False}) for n in (1, 16, 256, 4096)),
    *((f"evaluate gradient {n}", "gaussjax", "evaluate", {"batch": n}) for n in (64, 512, 8192)),
    *(("ppo {environment} ×{num_envs}".format(**case), "gaussjax-command", "ppo", case) for case in ppo.CASES),
    *((f"sac {name}", "gaussjax-training", "sac", {"environment": name, **_SAC}) for name in sac.ENVIRONMENTS),
    *(
        ("compiled ppo {num_envs} × {num_steps}".format(**case), "gaussjax-training", "compiled", case)
        for case in compiled.CASES
    ),
    *(
        ("compile ppo {num_envs} × {num_steps}".format(**case), "gaussjax-training", "compiling", case)
        for case in compiled.CASES[:1]
    ),
    *(
        ("lstm {steps}×{sequences}×{hidden}".format(**size), "gaussjax-memory", "recurrent", {"cell": "lstm", **size})
        for size in recurrent.SIZES
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rows", default="", help="comma-separated beginnings of the titles of rows; default: all")
    parser.add_argument("--processes", type=int, default=3, help="processes of each revision for a row")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each process")
    parser.add_argument("--turn", type=float, default=0.05, help="approximate seconds of one turn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    options.environments = Path(".peers")
    roots = {"old": options.old.resolve(), "new": options.new.resolve()}
    wanted = tuple(options.rows.split(","))
    watch, table = machine.Watch(), []
    for row in ROWS:
        if row[0].startswith(wanted):
            table.append(_line(row[0], _processes(row, roots, options)))
    if "startup".startswith(wanted):
        table += [_line(title, times) for title, times in _startup(roots, options)]
    described, load = machine.describe()["machine"], watch.stop()["share_of_cpu_used_by_others"]
    sys.stdout.write(
        f"{described['cores']} cores of {described['processor']}; others used {load:.0%} of them.\n\n"
        + report.grid(["row", "old", "new", "new ÷ old, medians", "fastest"], table)
        + "\n"
    )


def _line(title: str, times: Mapping[str, list[list[float]]]) -> list[str]:
    """A row of the table from the seconds of each turn of each process."""
    medians = {name: statistics.median(statistics.median(turns) for turns in found) for name, found in times.items()}
    fastest = {name: min(min(turns) for turns in found) for name, found in times.items()}
    sys.stderr.write(f"{title}: {medians['new'] / medians['old']:.3f}, {fastest['new'] / fastest['old']:.3f}\n")
    sys.stderr.flush()
    return [
        title,
        *(f"{1e3 * medians[name]:.4g} ms" for name in ("old", "new")),
        *(f"{kind['new'] / kind['old']:.2f}" for kind in (medians, fastest)),
    ]


def _processes(row: Row, roots: Mapping[str, Path], options: Any) -> dict[str, list[list[float]]]:
    _, name, command, case = row
    contender = peers.CONTENDERS[name]
    times: dict[str, list[list[float]]] = {which: [] for which in roots}
    for _ in range(options.processes):
        with contextlib.ExitStack() as stack:
            ready = {}
            for which, root in roots.items():
                worker = runner.Worker(contender, options, root)
                stack.callback(worker.stop)
                worker.ask(build=command, case={**case, **contender.options})
                ready[which] = (worker, runner.calls_a_turn(worker, options.turn))
            for which, (turns, *_) in runner.alternating(ready, options.rounds).items():
                times[which].append([seconds / ready[which][1] for seconds in turns])
    return times


def _startup(roots: Mapping[str, Path], options: Any) -> Iterator[tuple[str, dict[str, list[list[float]]]]]:
    """Seconds of whole processes; each measurement counts as a process with one turn."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.processes):
            for which, root in roots.items():
                file = Path(folder) / "startup.json"
                command = [sys.executable, "-m", "benchmarks", "startup", "--peers", "none", "--processes", "2"]
                subprocess.run(
                    [*command, "--device", options.device, "--json", str(file)],
                    cwd=root,
                    env=runner.surroundings(options.device, PYTHONPATH=str(root)),
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                results = json.loads(file.read_text())
                measured = {"import": results["imports"]["gaussjax"]}
                for name, states in results["first"].items():
                    measured |= {f"{name}, {state}": times for state, times in states.items()}
                for title, times in measured.items():
                    sides = found.setdefault(title, {key: [] for key in roots})
                    sides[which].append([times["median"]])
    yield from found.items()


if __name__ == "__main__":
    main()

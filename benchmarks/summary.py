"""The tables of the README and of the pages, written from the results with their date and machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import cloning_shares, exploration, footprint, history, learning, main_job, ppo, report, sac, tuning
from benchmarks.peers import CONTENDERS

Results = Mapping[str, Any]
# Command, suffix of its JAX contenders, and the batches to show with their titles.
_CALLS = (
    ("serving", "-inline", {1: "`act`, 1 observation, in the caller's thread"}),
    ("act", "", {1: "`act`, 1 observation, as JAX hands it to another thread", 4096: "`act`, 4096 observations"}),
    ("evaluate", "", {64: "gradient of PPO's loss, 64 samples", 8192: "the same, 8192 samples"}),
)
_CALL_CONTENDERS = ("gaussjax", "skrl-torch", "skrl-jax-agent", "sb3", "brax", "torchrl", "distrax")
_TRAININGS = (("ppo", "PPO", ppo), ("sac", "SAC", sac))
_TRAINED_PEERS = ("sbx-training", "sb3-training")


def blocks(folder: Path) -> dict[str, str]:
    """Text of each marked block of the README and of the page about costs, by the name of the mark.

    Args:
        folder: Folder of the results; results that are missing or measured beside other work are left out.
    """
    read = {file.name.removesuffix("-cpu.json"): json.loads(file.read_text()) for file in folder.glob("*-cpu.json")}
    found = {name: results for name, results in read.items() if report.quiet(results)}
    made = {}
    if "main_job" in found:
        made["main job"] = f"{_measured([found['main_job']])}\n\n{main_job.markdown(found['main_job'])}"
    tables = (
        ([command for command, _, _ in _CALLS], _calls),
        ([command for command, _, _ in _TRAININGS], _trainings),
        (["learning"], _learnt),
    )
    parts = []
    for commands, table in tables:
        used = [found[command] for command in commands if command in found]
        if text := table(found):
            parts += [_measured(used), text]
    if parts:
        made["speed"] = "\n\n".join(parts)
    for block, command, module in (("settings", "tuning", tuning), ("footprint", "footprint", footprint)):
        made[block] = f"Not measured yet: `python -m benchmarks {command}` measures these."
        if command in found:
            made[block] = f"{_measured([found[command]])}\n\n{module.markdown(found[command])}"
    if {"act", "evaluate", "ppo"} <= set(found):
        used = [found[command] for command in ("act", "evaluate", "ppo")]
        made["headline"] = f"{_measured(used)}\n\n{_headline(found)}"
    return made


def comparison(folder: Path) -> dict[str, str]:
    """Text of the marked blocks of the pages about exploration and data; none before the trainings are done."""
    made = {}
    for block, command, module in (
        ("comparison", "exploration", exploration),
        ("clones", "cloning_shares", cloning_shares),
    ):
        path = folder / f"{command}-cpu.json"
        if path.exists():
            results = json.loads(path.read_text())
            made[block] = f"{_measured([results])}\n\n{module.markdown(results)}"
    return made


def fill(page: Path, made: Mapping[str, str]) -> None:
    """Write each block between its marks, if the page has them."""
    text = page.read_text()
    for name, block in made.items():
        first, last = f"<!-- {name}: written by `python -m benchmarks report` -->\n", f"<!-- {name}: end -->"
        if first not in text:
            continue
        before, rest = text.split(first)
        text = f"{before}{first}{block}\n{last}{rest.split(last)[1]}"
    page.write_text(text)


def _measured(results: Sequence[Results]) -> str:
    dates = sorted({result["date"] for result in results})
    machines = sorted({"{cores} cores of {processor}".format(**result["machine"]) for result in results})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    change = history.since(" ".join(result["revision"] for result in results))
    later = f"; since then {history.count(change)} changed the package" if change and change.files else ""
    return f"Measured {when} on {' and '.join(machines)}{later}:"


def _headline(found: Mapping[str, Results]) -> str:
    """Table of three times beside the best of the other libraries."""
    rows = []
    for command, title, ours, chosen in (
        (
            "act",
            "actions of 4096 observations",
            "gaussjax",
            lambda case: case["batch"] == 4096 and not case["resident"],
        ),
        ("evaluate", "gradient of PPO's loss, 8192 samples", "gaussjax", lambda case: case["batch"] == 8192),
        ("ppo", "training with PPO, HalfCheetah-v5", ppo.CONTENDERS[0], lambda case: "Cheetah" in case["environment"]),
    ):
        times = next(case["times"] for case in found[command]["cases"] if chosen(case["case"]))
        others = {name: time["median"] for name, time in times.items() if not name.startswith("gaussjax")}
        best = min(others, key=others.__getitem__)
        linked = f"[{title}](benchmarks/results/README.md#{command}-{found[command]['device']})"
        row = [linked, f"{others[best] / times[ours]['median']:.2f}×", CONTENDERS[best].title.split(",")[0]]
        rows.append(row)
    return report.grid(["", "speed of gaussjax ÷ that of the fastest other", "the fastest other"], rows)


def _calls(found: Mapping[str, Results]) -> str:
    """Table of µs per call."""
    rows = []
    for command, ending, titles in _CALLS:
        for case in found[command]["cases"] if command in found else ():
            title = titles.get(case["case"]["batch"])
            if title and not case["case"].get("resident"):
                names = [name + ending if name + ending in case["times"] else name for name in _CALL_CONTENDERS]
                rows.append([title, *_cells(case["times"], names, _microseconds)])
    return _table("µs a call", _CALL_CONTENDERS, rows)


def _trainings(found: Mapping[str, Results]) -> str:
    """Table of environment steps per second."""
    rows = []
    for command, title, module in _TRAININGS:
        for case in found[command]["cases"] if command in found else ():
            done = module.steps(case["case"])
            # The first contender of a command runs as gaussjax's command line does.
            names = (module.CONTENDERS[0], *_TRAINED_PEERS)
            cells = _cells(case["times"], names, lambda seconds, done=done: f"{done / seconds:,.0f}")
            rows.append([f"{title}, {case['case']['environment']}", *cells])
    return _table("environment steps a second", ("gaussjax", *_TRAINED_PEERS), rows)


def _learnt(found: Mapping[str, Results]) -> str:
    """Table of the returns that the command line's trainings reach."""
    rows = []
    for name, runs in found["learning"]["learning"].items() if "learning" in found else ():
        case = learning.CASES[name]
        means = [sum(run["returns"]) / len(run["returns"]) for run in runs]
        means_text = ", ".join(f"{mean:.0f}" for mean in means)
        rows.append([f"{case.title}, `{learning.short(case)}`", f"{runs[0]['steps']:,}", means_text])
    return report.grid(["`gaussjax train`", "environment steps", "mean return, by seed"], rows) if rows else ""


def _cells(times: Mapping[str, Any], names: Sequence[str], text: Callable[[float], str]) -> list[str]:
    return [text(times[name]["median"]) if name in times else "–" for name in names]


def _table(head: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = [CONTENDERS[name].title.split(",")[0] for name in names]
    return report.grid([head, *titles], rows) if rows else ""


def _microseconds(seconds: float) -> str:
    return report.number(1e6 * seconds)

"""Time of programs with and without settings of the whole process, in alternating processes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks import report, runner, startup


class Setting(NamedTuple):
    """A setting of a process, and the calls that show what it gives.

    Attributes:
        line: What a user writes.
        without: The contender without the setting.
        beside: The contender with the setting.
        calls: Title, function and case of each call.
    """

    line: str
    without: str
    beside: str
    calls: tuple[tuple[str, str, Mapping[str, Any]], ...]


SETTINGS = (
    Setting(
        "`XLA_FLAGS=--xla_cpu_prefer_vector_width=512`",
        "gaussjax",
        "gaussjax-wide",
        (
            ("`act`, 4096 observations", "act", {"batch": 4096, "resident": False}),
            ("`act`, 65536 observations", "act", {"batch": 65536, "resident": False}),
            ("gradient of PPO's loss, 8192 samples", "evaluate", {"batch": 8192}),
        ),
    ),
    Setting(
        '`jax.config.update("jax_cpu_enable_async_dispatch", False)`',
        "gaussjax",
        "gaussjax-inline",
        (
            ("`act`, 1 observation", "act", {"batch": 1, "resident": False}),
            ("`act`, 16 observations", "act", {"batch": 16, "resident": False}),
        ),
    ),
)
_CACHE, _STARTS = "`JAX_COMPILATION_CACHE_DIR=…`", ("the first action", "the first PPO update")
_PROCESSES = 7


def run(options: argparse.Namespace) -> dict[str, Any]:
    calls, shares = [], []
    for setting in SETTINGS:
        for title, function, case in setting.calls:
            names = setting.without, setting.beside
            measured = runner.measure(function, [case], names, [_PROCESSES], options)
            shares.append(measured["share_of_cpu_used_by_others"])
            times = measured["cases"][0]["times"]
            calls.append({"line": setting.line, "title": title, "times": [times.get(name) for name in names]})
    missing: dict[str, str] = {}
    first = startup.first(options, options.processes or _PROCESSES, _STARTS, missing)
    calls += [
        {"line": _CACHE, "title": f"from the start of a process to {name}", "times": [states["cold"], states["warm"]]}
        for name, states in first.items()
        if "warm" in states
    ]
    return {"calls": calls, "not_measured": missing, "share_of_cpu_used_by_others": max(shares)}


def markdown(results: dict[str, Any]) -> str:
    rows = []
    for call in results["calls"]:
        without, beside = call["times"]
        figures = ["not measured"] * 3
        if without and beside:
            gain = f"**{report.ratio(beside['median'], without['median'])}**"
            figures = [report.duration(without["median"]), report.duration(beside["median"]), gain]
        rows.append([call["line"], call["title"], *figures])
    parts = [report.grid(["setting", "of", "without", "with", "with ÷ without"], rows)]
    return "\n\n".join([*parts, report.not_measured(results["not_measured"])] if results["not_measured"] else parts)

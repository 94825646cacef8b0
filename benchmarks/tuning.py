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
        contender: The contender with the setting, compared with `gaussjax`; None for a setting whose programs are
            started with an empty cache and with a full one.
        calls: Title, function or program, and case of each call.
    """

    line: str
    contender: str | None
    calls: tuple[tuple[str, str, Mapping[str, Any]], ...]


SETTINGS = (
    Setting(
        "`XLA_FLAGS=--xla_cpu_prefer_vector_width=512`",
        "gaussjax-wide",
        (
            ("`act`, 4096 observations", "act", {"batch": 4096, "resident": False}),
            ("`act`, 65536 observations", "act", {"batch": 65536, "resident": False}),
            ("gradient of PPO's loss, 8192 samples", "evaluate", {"batch": 8192}),
        ),
    ),
    Setting(
        '`jax.config.update("jax_cpu_enable_async_dispatch", False)`',
        "gaussjax-inline",
        (
            ("`act`, 1 observation", "act", {"batch": 1, "resident": False}),
            ("`act`, 16 observations", "act", {"batch": 16, "resident": False}),
        ),
    ),
    Setting(
        "`JAX_COMPILATION_CACHE_DIR=…`",
        None,
        (
            ("from the start of a process to the first action", "the first action", {}),
            ("from the start of a process to the first PPO update", "the first PPO update", {}),
        ),
    ),
)
_PROCESSES = 7


def run(options: argparse.Namespace) -> dict[str, Any]:
    calls, shares, missing = [], [], {}
    for setting in SETTINGS:
        for title, function, case in setting.calls:
            if setting.contender is None:
                states = startup.first(options, options.processes or _PROCESSES, [function], missing).get(function, {})
                times = [states.get("cold"), states.get("warm")]
            else:
                names = "gaussjax", setting.contender
                measured = runner.measure(function, [case], names, [_PROCESSES], options)
                shares.append(measured["share_of_cpu_used_by_others"])
                times = [measured["cases"][0]["times"].get(name) for name in names]
            calls.append({"line": setting.line, "title": title, "times": times})
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

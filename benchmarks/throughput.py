"""Tables of environment steps per second, for commands whose calls differ in their number of steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.peers import CONTENDERS

Case = Mapping[str, Any]
Bar = tuple[int, str, float]
"""Index of the case, peer, and least ratio of our steps per second to its steps per second."""


def rows(
    results: Mapping[str, Any], names: Sequence[str], cell: Callable[[Case, Mapping[str, Any]], str]
) -> list[list[str]]:
    """One row per contender: its title, then the ratio of times and the text of `cell` for each case."""
    found = []
    for name in names:
        cells = []
        for case in results["cases"]:
            times, ours = case["times"].get(name), case["times"].get(names[0])
            if times is None:
                cells.append("failed" if name in case["refused"] else "not measured")
                continue
            ratio = "" if name == names[0] or not ours else f"**{report.ratio(ours['median'], times['median'])}** "
            cells.append(ratio + cell(case, times))
        found.append([CONTENDERS[name].title, *cells])
    return found


def table(
    results: Mapping[str, Any],
    names: Sequence[str],
    steps: Callable[[Case], int],
    heads: Sequence[str],
    unit: str = "environment steps a second",
) -> str:
    """Steps per second with quartiles and the ratio of times, by contender and case.

    Args:
        results: Result of `runner.measure`.
        names: Names of the contenders; the first is gaussjax.
        steps: Function from a case to the environment steps of one call.
        heads: Titles of the cases.
        unit: Title of the numbers.
    """

    def cell(case: Case, times: Mapping[str, Any]) -> str:
        done = steps(case["case"])
        slowest, fastest = (done / quartile for quartile in reversed(times["quartiles"]))
        return f"{done / times['median']:,.0f} ({slowest:,.0f}–{fastest:,.0f})"

    parts = [report.grid([unit, *heads], rows(results, names, cell))]
    if results["not_measured"]:
        missing = {CONTENDERS[name].title: why for name, why in results["not_measured"].items()}
        parts.append(report.not_measured(missing))
    for head, case in zip(heads, results["cases"], strict=True):
        failed = [f"{CONTENDERS[name].title} ({why})" for name, why in case["refused"].items()]
        if failed:
            parts.append(f"Failed, {head}: " + "; ".join(failed) + ".")
    return "\n\n".join(parts)


def bars(
    results: Mapping[str, Any], names: Sequence[str], wanted: Sequence[Bar], heads: Sequence[str], unit: str = "steps"
) -> str:
    """A table of bars: the ratio of steps per second to reach, the ratio reached and the verdict."""
    rows = []
    for number, peer, least in wanted:
        if number >= len(results["cases"]):
            continue
        title, times = f"{heads[number]}: {CONTENDERS[peer].title}", results["cases"][number]["times"]
        if names[0] not in times or peer not in times:
            rows.append([title, f"{least}×", "not measured", "not measured", ""])
            continue
        ours, theirs = times[names[0]], times[peer]
        reached = theirs["median"] / ours["median"]
        rows.append(
            [
                title,
                f"{least}×",
                f"{reached:.2f}×",
                f"{theirs['best'] / ours['best']:.2f}×",
                report.verdict(reached >= least, results),
            ]
        )
    return report.grid([f"bar, our {unit} a second ÷ theirs", "at least", "reached", "best processes", ""], rows)


def beside(entries: Sequence[tuple[str, Sequence[str], int, float | None, Mapping[str, Any]]]) -> str:
    """A table with a block for each comparison, and what was not measured.

    Args:
        entries: For each comparison its title, its contenders (the first is ours), the environment steps of a call, the
            bar for our steps a second over theirs, or None, and the result of `runner.measure` for one case.
    """
    ratios = ("bar, ours ÷ theirs", "reached", "best processes", "fastest turns", "processor time")
    heads = ["", "", "environment steps a second", *ratios, ""]
    table, missing = [], {}
    for title, names, steps, bar, measured in entries:
        found = measured["cases"][0]
        ours = found["times"].get(names[0])
        for name in names:
            times = found["times"].get(name)
            if times is None:
                missing[f"{title}, {CONTENDERS[name].title}"] = {**measured["not_measured"], **found["refused"]}[name]
                continue
            slowest, fastest = (steps / quartile for quartile in reversed(times["quartiles"]))
            row = [
                title if name == names[0] else "",
                CONTENDERS[name].title,
                f"{steps / times['median']:,.0f} ({slowest:,.0f}–{fastest:,.0f})",
            ]
            if name != names[0] and ours:
                kinds = ("median", "best", "fastest", "processor")
                reached, *others = (times[kind] / ours[kind] for kind in kinds)
                row += [
                    "none" if bar is None else f"≥ {bar}×",
                    f"**{reached:.2f}×**",
                    *(f"{ratio:.2f}×" for ratio in others),
                    "" if bar is None else report.verdict(reached >= bar, measured),
                ]
            table.append(row + [""] * (len(heads) - len(row)))
    parts = [report.grid(heads, table)]
    return "\n\n".join([*parts, report.not_measured(missing)] if missing else parts)

"""Tables of work done in a second, for commands whose calls differ in how much they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import report
from benchmarks.peers import CONTENDERS

Case = Mapping[str, Any]
Bar = tuple[int, str, float]
"""Number of the case, peer, and how many times its steps a second ours must be."""


def rows(
    results: Mapping[str, Any], names: Sequence[str], cell: Callable[[Case, Mapping[str, Any]], str]
) -> list[list[str]]:
    """A row a contender: its title, and of each case the ratio of times and what `cell` makes of its own."""
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


def table(results: Mapping[str, Any], names: Sequence[str], steps: Callable[[Case], int], heads: Sequence[str]) -> str:
    """Contenders down, cases across: steps a second with their quartiles, and the ratio of times.

    Args:
        results: Of `runner.measure`.
        names: Of the contenders; the first is ours.
        steps: How many environment steps a call of a case makes.
        heads: What each case is called.
    """

    def cell(case: Case, times: Mapping[str, Any]) -> str:
        done = steps(case["case"])
        slowest, fastest = (done / quartile for quartile in reversed(times["quartiles"]))
        return f"{done / times['median']:,.0f} ({slowest:,.0f}–{fastest:,.0f})"

    parts = [report.grid(["environment steps a second", *heads], rows(results, names, cell))]
    if results["not_measured"]:
        missing = {CONTENDERS[name].title: why for name, why in results["not_measured"].items()}
        parts.append(report.not_measured(missing))
    for head, case in zip(heads, results["cases"], strict=True):
        failed = [f"{CONTENDERS[name].title} ({why})" for name, why in case["refused"].items()]
        if failed:
            parts.append(f"Failed, {head}: " + "; ".join(failed) + ".")
    return "\n\n".join(parts)


def bars(results: Mapping[str, Any], names: Sequence[str], wanted: Sequence[Bar], heads: Sequence[str]) -> str:
    """How many times a peer's steps a second ours were to be, and are."""
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
    return report.grid(["bar, our steps a second ÷ theirs", "at least", "reached", "best processes", ""], rows)

"""Tables, plots and the page of results, written from the JSON files."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import history
from benchmarks.peers import CONTENDERS

OURS = "gaussjax"
_QUIET = 0.1

_INTRODUCTION = """\
# Speed

Written by `python -m benchmarks report` from the files beside it; `make bench` measures again.

Every contender, gaussjax too, runs in a process of its own, all over the same numbers, and they take turns within one
run. Each is started several times. A time is the median over its processes of the median over its turns; in brackets
are the quartiles of all turns. A turn begins with calls that do not count, for as long as its section says (where it
does not, for a quarter of a second from revision ab20e98 on, for a fiftieth before): after another's turn it takes up
to half a second until hand-overs to threads are as fast as they get. **Ratios are our
time ÷ theirs: below 1 gaussjax is faster.** At small batches a process keeps to a slow or a fast way of handing work
to its threads, so there the best process is shown as well.
What could not be measured is named with its reason. Sections are of the machine, the date and the revision that they
name; a ratio holds within its section. A section that was measured before a change of the package says so, with the
number of commits that have changed the package since.
"""


def sizes(options: argparse.Namespace, default: Sequence[int]) -> list[int]:
    """The sizes of `--sizes`, or the default."""
    return list(default) if options.sizes is None else [int(size) for size in options.sizes.split(",")]


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def verdict(kept: bool, results: Mapping[str, Any]) -> str:
    """The verdict on a bar, or "no evidence" if the machine was not quiet."""
    if not quiet(results):
        return "no evidence"
    return "kept" if kept else "**missed**"


def quiet(results: Mapping[str, Any]) -> bool:
    """True if other processes used less than a tenth of the processor, or if nothing was timed."""
    return (results["share_of_cpu_used_by_others"] or 0.0) < _QUIET


def spread(times: Mapping[str, Any], scale: float) -> str:
    return "–".join(number(scale * quartile) for quartile in times["quartiles"])


def number(x: float) -> str:
    """A number with three digits and no exponent."""
    return f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def duration(seconds: float) -> str:
    """A time with three digits, in the unit in which it is at least 1."""
    unit, scale = next(
        ((unit, scale) for unit, scale in (("s", 1.0), ("ms", 1e3)) if seconds * scale >= 1), ("µs", 1e6)
    )
    return f"{number(scale * seconds)} {unit}"


def ratio(ours: float, theirs: float) -> str:
    """Our time divided by theirs, with two decimals, or with two digits below a tenth."""
    return f"{ours / theirs:.2f}×" if ours >= 0.1 * theirs else f"{ours / theirs:.2g}×"


def not_measured(reasons: Mapping[str, str]) -> str:
    return "Not measured: " + "; ".join(f"{name} ({reason})" for name, reason in reasons.items()) + "."


def table(
    results: Mapping[str, Any],
    by: str,
    where: Mapping[str, Any] | None = None,
    among: Sequence[str] | None = None,
) -> str:
    """Median, quartiles and ratio of each contender by size in µs, then the same of its best process.

    The first of the contenders `among` is ours; without a choice these are all, as they stand in `CONTENDERS`.
    """
    cases = select(results, where)
    names = [name for name in among or CONTENDERS if any(name in case["times"] for case in cases)]
    heads = ["µs", *(size_name(case["case"][by]) for case in cases)]
    first = names[0] if names else OURS
    rows, best = [], []
    for name in names:
        cells, best_cells = [], []
        for case in cases:
            times, ours = case["times"].get(name), case["times"].get(first)
            if times is None:
                cells.append("failed" if name in case["refused"] else "not measured")
                best_cells.append(cells[-1])
                continue
            compared = "" if name == first or ours is None else f"**{ratio(ours['median'], times['median'])}** "
            cells.append(f"{compared}{_microseconds(times['median'])} ({spread(times, 1e6)})")
            compared = "" if name == first or ours is None else f"**{ratio(ours['best'], times['best'])}** "
            best_cells.append(f"{compared}{_microseconds(times['best'])}")
        rows.append([CONTENDERS[name].title, *cells])
        best.append([CONTENDERS[name].title, *best_cells])
    parts = [grid(heads, rows), "The best process of each:", grid(heads, best)]
    missing = {name: why for name, why in results["not_measured"].items() if name in (among or CONTENDERS)}
    if missing:
        parts.append(not_measured({CONTENDERS[name].title: why for name, why in missing.items()}))
    for case in cases:
        failed = [
            f"{CONTENDERS[name].title} ({why})"
            for name, why in case["refused"].items()
            if name in (among or CONTENDERS)
        ]
        if failed:
            parts.append(f"Failed at {size_name(case['case'][by])}: " + "; ".join(failed) + ".")
    return "\n\n".join(parts)


def bars(
    results: Mapping[str, Any],
    by: str,
    wanted: Sequence[tuple[int | str, str | None, float]],
    where: Mapping[str, Any] | None = None,
    ours: str = OURS,
) -> str:
    """A table of bars: the ratio to reach, the ratio reached and the verdict; a bar's peer None is the best peer."""
    cases = {case["case"][by]: case["times"] for case in select(results, where)}
    rows = []
    for size, peer, most in wanted:
        times = cases.get(size, {})
        others = {name: times[name] for name in times if name != ours and peer in (None, name)}
        if ours not in times or not others:
            title = "the best peer" if peer is None else CONTENDERS[peer].title
            rows.append([f"{by} {size}, {title}", f"{most}×", "not measured", "not measured", ""])
            continue
        name = min(others, key=lambda name: others[name]["median"])
        best = min(others[name]["best"] for name in others)
        reached = times[ours]["median"] / others[name]["median"]
        title = CONTENDERS[name].title + (", the best peer" if peer is None else "")
        rows.append(
            [
                f"{by} {size}, {title}",
                f"{most}×",
                f"{reached:.2f}×",
                f"{times[ours]['best'] / best:.2f}×",
                verdict(reached <= most, results),
            ]
        )
    return grid(["bar", "at most", "reached", "best processes", ""], rows)


def floors(results: Mapping[str, Any]) -> str:
    """Share of the device's bandwidth that `act` reaches with resident arrays."""
    times = {case["case"]["batch"]: case["times"].get(OURS) for case in select(results, {"resident": True})}
    rows = [
        [
            size_name(floor["batch"]),
            f"{floor['bytes'] / 1e6:.3g}",
            _microseconds(floor["seconds"]),
            _microseconds(times[floor["batch"]]["best"]),
            f"{floor['seconds'] / times[floor['batch']]['best']:.1%}",
        ]
        for floor in results.get("floors", ())
    ]
    if not rows:
        return ""
    title = f"Floor: the bytes of inputs and outputs over {results['floors'][0]['bandwidth'] / 1e9:.0f} GB/s, measured."
    return title + "\n\n" + grid(["batch", "MB moved", "floor, µs", "best, µs", "share reached"], rows)


def plot(results: Mapping[str, Any], by: str, folder: Path, name: str, where: Mapping[str, Any] | None = None) -> str:
    """Plot time against size on logarithmic axes, with the slope over the larger half of the sizes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "gaussjax"
    from matplotlib import pyplot

    cases = select(results, where)
    figure, axes = pyplot.subplots(figsize=(9, 4.2))
    slopes = []
    for contender in CONTENDERS:
        points = [(_size(case["case"][by]), case["times"][contender]) for case in cases if contender in case["times"]]
        if not points:
            continue
        x, y = [size for size, _ in points], [1e6 * times["median"] for _, times in points]
        label = f"{CONTENDERS[contender].title}, slope {slope(x, y):.2f}"
        slopes.append(f"{CONTENDERS[contender].title} {slope(x, y):.2f}")
        axes.plot(x, y, "o-", label=label, linewidth=2.5 if contender.startswith(OURS) else 1.2)
        low, high = ([1e6 * times["quartiles"][i] for _, times in points] for i in (0, 1))
        axes.fill_between(x, low, high, alpha=0.15)
    axes.set(xscale="log", yscale="log", xlabel=by, ylabel="µs a call")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)
    slope_text = "Slope over the larger half of the sizes (1: time in proportion): " + ", ".join(slopes) + "."
    return f"![Time against {by}]({name}.svg)\n\n{slope_text}"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of log(y) over log(x) in the larger half of the sizes; 1 means time proportional to size."""
    first = (len(x) - 1) // 2
    if len(x) - first < 2:
        return math.nan
    points = [(math.log(a), math.log(b)) for a, b in zip(x[first:], y[first:], strict=True)]
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    squares = sum((a - mean_x) ** 2 for a, _ in points)
    return sum((a - mean_x) * (b - mean_y) for a, b in points) / squares


def heading(results: Mapping[str, Any]) -> str:
    """Machine, date, revision and load of a measurement."""
    machine = results["machine"]
    others = results["share_of_cpu_used_by_others"]
    warm_up = next((settings["warm_up"] for settings in _settings(results) if "warm_up" in settings), None)
    turns = f" Turns begin with {warm_up} s that do not count." if warm_up else ""
    timed = f" {results['seconds']} s; others used {others or 0.0:.1%} of the processor while it was measured."
    load = "" if others is None else timed
    warning = "" if quiet(results) else " **The machine was not quiet: these figures are no evidence.**"
    age = history.age(results["revision"])
    return (
        f"## {results['command']} ({results['device']})\n\n"
        f"{results['date']}, revision {results['revision']}; {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}."
        f"{load}{turns}{warning}{f' {age}' if age else ''}\n"
    )


def _settings(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of each measurement of a command."""
    parts = [results, *(part for part in results.values() if isinstance(part, Mapping))]
    return [part["settings"] for part in parts if "settings" in part]


def write(modules: Mapping[str, Any], folder: Path) -> None:
    """Write README.md and the plots into the folder of the results."""
    parts, versions = [_INTRODUCTION], {}
    for command, module in modules.items():
        for device in ("cpu", "cuda"):
            file = folder / f"{command}-{device}.json"
            if not file.exists():
                if hasattr(module, "PAGE") and (folder / module.PAGE.name).exists():
                    if device == "cpu":
                        parts.append(f"## {command}\n\nSee [{module.PAGE.name}]({module.PAGE.name}).\n")
                elif device == "cpu" or hasattr(module, "ACCELERATOR"):
                    why = "" if device == "cpu" else ": no such device was at hand"
                    parts.append(f"## {command} ({device})\n\nNot measured{why}.\n")
                continue
            results = json.loads(file.read_text())
            if hasattr(module, "PAGE"):
                (folder / module.PAGE.name).write_text(module.markdown(results))
                parts += [heading(results), f"See [{module.PAGE.name}]({module.PAGE.name}).\n"]
                continue
            parts += [heading(results), module.markdown(results) + "\n"]
            if hasattr(module, "plots"):
                parts.append(module.plots(results, folder) + "\n")
            _collect(results, versions)
    rows = [
        [CONTENDERS[name].title, found["hardware"], ", ".join(f"{p} {v}" for p, v in found["versions"].items())]
        for name, found in versions.items()
    ]
    if rows:
        parts += ["## Versions\n", grid(["", "ran on", "packages"], rows) + "\n"]
    (folder / "README.md").write_text("\n".join(parts))


def _collect(results: Any, versions: dict[str, Any]) -> None:
    """Collect the versions of all contenders from nested results."""
    if isinstance(results, Mapping):
        contenders = results.get("contenders")
        if isinstance(contenders, Mapping):
            versions |= {name: found for name, found in contenders.items() if name in CONTENDERS}
        for value in results.values():
            _collect(value, versions)


def select(results: Mapping[str, Any], where: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The cases whose fields equal those of `where`."""
    return [
        case
        for case in results["cases"]
        if all(case["case"].get(name) == value for name, value in (where or {}).items())
    ]


def size_name(size: Any) -> str:
    return f"{_size(size):,}".replace(",", " ")


def _size(size: Any) -> int:
    """A size as a number: the first width of a list of widths."""
    return size[0] if isinstance(size, Sequence) else size


def _microseconds(seconds: float) -> str:
    return number(1e6 * seconds)

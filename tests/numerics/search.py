"""Searches for the worst point of every bar: each function, type, derivative, library and mode.

`python -m tests.numerics.search` tries 2·10⁷ random points of each function in float32 under `jit` and fewer in the
other cases. It records the worst points in `worst.json`, which `make test` tries again, and writes the table
`benchmarks/results/search.md`. Names of rows as arguments search these rows alone. With `--all-inputs` every float32
number is tried once in each function of one argument.

float32 results are compared with the same function in float64, and float64 results with 330 bits. In the end each mode
but torch.compile tries the worst points of all modes, with 330 bits as well. `--scale 0` does only this.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from tests.numerics import one_argument
from tests.numerics.measure import MODES, Worst, errors, truths, worst
from tests.numerics.points import TYPES, Inputs
from tests.numerics.rows import ROWS, UNIT, Row

Record = dict[str, dict[str, dict[str, list[Any]]]]
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "benchmarks" / "results" / "search.md"
RECORD = HERE / "worst.json"
DERIVATIVES = ("value", "gradient", "second")
# The arrays of a chunk stay in the cache, and XLA evaluates constants of their size quickly.
CHUNK = 50_000


def largest(row: Row, each: list[Worst]) -> list[Worst]:
    """The largest error of the value, of all gradients and of all second derivatives."""
    number = len(row.by)
    groups = (each[:1], each[1 : number + 1], each[number + 1 :])
    return [max(group, key=lambda one: one.units) for group in groups if group]


def search(row: Row, dtype: str, counts: Mapping[str, int], seed: int) -> dict[str, list[Worst]]:
    """The largest errors of value, gradient and second derivative in each mode, among so many random points.

    All modes share their points and the true results.
    """
    found: dict[str, list[Worst]] = {}
    for start in range(0, max(counts.values()), CHUNK):
        inputs = row.inputs(min(max(counts.values()) - start, CHUNK), dtype, seed + start)
        truth = truths(row, inputs, row.order, by_formula=dtype != "float64")
        for mode, count in counts.items():
            if count > start:
                some, true = (tuple(x[: count - start] for x in arrays) for arrays in (inputs, truth))
                here = largest(row, worst(errors(row, some, mode, true, row.order), some))
                pairs = zip(found.get(mode, here), here, strict=True)
                found[mode] = [max(pair, key=lambda one: one.units) for pair in pairs]
    return found


def search_row(row: Row, dtypes: Sequence[str], modes: Sequence[str], scale: float, seed: int = 1) -> Iterator[Record]:
    """Searches of a row: type → mode → derivative → its largest error, the number of points, and the worst point."""
    for dtype in dtypes:
        counts = {mode: int(scale * row.count(dtype, mode)) for mode in modes}
        # torch.compile takes a minute, so the other modes are recorded before it.
        compiled = {mode: count for mode, count in counts.items() if mode == "torch compile"}
        for some in ({mode: count for mode, count in counts.items() if mode not in compiled}, compiled):
            for mode, found in (search(row, dtype, some, seed) if some else {}).items():
                cells = zip(DERIVATIVES, found, strict=False)
                yield {dtype: {mode: {name: _cell(one, counts[mode], dtype) for name, one in cells}}}
                print(row.name, dtype, mode, [f"{one.units:.3g}" for one in found], flush=True)


def revisit(row: Row, dtype: str, modes: Sequence[str], earlier: dict[str, Any]) -> Record:
    """The cells of a row's earlier searches in a type, with the worst of all their points in each mode.

    torch.compile keeps its own points, because it takes a minute.
    """
    inputs = tuple(x.astype(TYPES[dtype]) for x in kept(earlier, dtype))
    truth = truths(row, inputs, row.order, by_formula=False)
    cells = {mode: dict(found) for mode, found in earlier[dtype].items() if mode in modes and mode != "torch compile"}
    for mode, cell in cells.items():
        here = largest(row, worst(errors(row, inputs, mode, truth, row.order), inputs))
        for name, one in zip(DERIVATIVES, here, strict=False):
            cell[name] = max(cell[name], _cell(one, cell[name][1], dtype), key=lambda each: each[0])
    return {dtype: cells}


def _cell(one: Worst, count: int, dtype: str) -> list[Any]:
    return [float(f"{one.units:.3g}"), count, [[_short(x, dtype) for x in argument] for argument in one.point]]


def _short(x: float, dtype: str) -> float:
    # As many digits as the type can tell apart.
    return float(f"{x:.{17 if dtype == 'float64' else 9}g}")


def kept(record: dict[str, Any], dtype: str) -> Inputs:
    """The worst points of earlier searches in a type, each once; nothing before the first search."""
    points = {str(cell[2]): cell[2] for cells in record.get(dtype, {}).values() for cell in cells.values()}
    columns = zip(*points.values(), strict=True)
    return tuple(np.array(x)[:, 0] if len(x[0]) == 1 else np.array(x) for x in columns)


def page(record: dict[str, Any]) -> str:
    """The Markdown page of a record."""
    lines = [
        "# Bars",
        "",
        "Largest errors that a search among random points found, seams included. A cell holds the error, the number of "
        "points, and the worst point: the arguments of the function in their order. Values and gradients are measured "
        "in units of roundoff (float32 2⁻²⁴, float64 2⁻⁵³, bfloat16 2⁻⁸) times the scale of the row; a value from "
        "bfloat16 inputs is float32. Second derivatives, forward over reverse, are measured relative to the true ones. "
        "float32 results are compared with the same formula in float64, and float64 results with 330 bits. Each mode "
        "but torch.compile tried the worst points of all modes too, so a cell may have the point of another. An error "
        f"above its bar is **bold**. jax {jax.__version__}, torch {torch.__version__}, {jax.default_backend()}.",
    ]
    for name, row in ROWS.items():
        lines += [
            "",
            f"## {name}",
            "",
            "| type | derivative | bar | " + " | ".join(MODES) + " |",
            "|---" * (3 + len(MODES)) + "|",
        ]
        found = record.get(name, {})
        for dtype in row.dtypes:
            for order, derivative in enumerate(DERIVATIVES[: row.order + 1]):
                bar = row.bar(order, dtype)
                cells = [_text(found.get(dtype, {}).get(mode, {}).get(derivative), bar) for mode in MODES]
                lines.append("| " + " | ".join([dtype, derivative, f"{bar:.3g}", *cells]) + " |")
    return "\n".join(lines) + "\n\n" + one_argument.page(record.get("all inputs", {}))


def _text(cell: list[Any] | None, bar: float) -> str:
    if cell is None:
        return "–"
    error, count, point = cell
    size = f"{error:.3g}" if error <= bar else f"**{error:.3g}**"
    return f"{size}<br>{count:,}<br>" + ", ".join(f"{x:.9g}" for argument in point for x in argument)


def read() -> dict[str, Any]:
    """The record of the last search of each row."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def write(name: str, found: Any) -> None:
    """Replaces what was found of one row in the record, and writes the page."""
    record = read()
    earlier = record.setdefault(name, {})
    for part, cells in found.items():
        earlier[part] = {**earlier.get(part, {}), **cells} if isinstance(cells, dict) else cells
    record = {name: record.get(name, {}) for name in (*ROWS, "all inputs")}
    lines = (f" {json.dumps(name)}: {json.dumps(found, separators=(',', ':'))}" for name, found in record.items())
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    PAGE.write_text(page(record))


def main() -> None:
    """Searches the rows and writes the record and the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.numerics.search", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help="names of rows; default: all")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES, help="columns to search; default: all")
    parser.add_argument("--types", nargs="*", choices=UNIT, default=list(UNIT), help="types to search; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of random points")
    parser.add_argument("--all-inputs", action="store_true", help="try every float32 number instead")
    options = parser.parse_args()
    if options.all_inputs:
        for name, found in one_argument.search(options.rows):
            write("all inputs", {name: found})
        return
    for name in options.rows or ROWS:
        dtypes = [dtype for dtype in ROWS[name].dtypes if dtype in options.types]
        for found in search_row(ROWS[name], dtypes, options.modes, options.scale):
            write(name, found)
        for dtype in dtypes:
            write(name, revisit(ROWS[name], dtype, options.modes, read()[name]))


if __name__ == "__main__":
    main()

"""Time of forward and backward passes of recurrent layers with 2% resets."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax", "gaussjax-autodiff", "flax-scan", "torch-split")
ACCELERATOR = CONTENDERS
CELLS = ("lstm", "gru")
SIZES = (
    {"sequences": 64, "steps": 64, "features": 32, "hidden": 64},
    {"sequences": 256, "steps": 128, "features": 64, "hidden": 128},
)
# A turn of the larger size is a single call, so the median needs many processes.
_PROCESSES = 7
LENGTHS, LINEAR = (64, 256, 1024, 4096), "mingru"
# Steps, peer and largest ratio of our time to its time, for the LSTM.
BARS = ((64, "torch-split", 0.35), (64, "flax-scan", 0.85), (128, "torch-split", 0.8), (128, "flax-scan", 0.85))


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = ["gaussjax-memory" if name == "gaussjax" else name for name in peers.chosen(CONTENDERS, options.peers)]
    cases = [{"cell": cell, **size} for cell in CELLS for size in SIZES]
    results = {"layers": runner.measure("recurrent", cases, names, [_PROCESSES] * len(cases), options)}
    long = {"sequences": 1, "features": 32, "hidden": 64}
    cases = [
        {"cell": cell, "steps": steps, **long} for cell in (LINEAR, "lstm") for steps in report.sizes(options, LENGTHS)
    ]
    results["lengths"] = runner.measure("recurrent", cases, ["gaussjax-memory"], [3] * len(cases), options)
    shares = [part["share_of_cpu_used_by_others"] for part in results.values()]
    return {**results, "share_of_cpu_used_by_others": max(shares)}


def markdown(results: dict[str, Any]) -> str:
    parts = [
        "The gradient of a layer over whole sequences; 2% of the steps start an episode. torch runs the pieces between "
        "such steps one after the other; Flax scans its cell with a mask; gaussjax has `fast_backward=True`, and its "
        "second row is the default, automatic differentiation of the scan. The sizes: "
        + "; ".join(
            "{steps} steps: {sequences} sequences, in {features}, hidden {hidden}".format(**size) for size in SIZES
        )
        + "."
    ]
    for cell in CELLS:
        parts += [f"### {cell.upper()}, by steps", report.table(results["layers"], "steps", where={"cell": cell})]
    if results["device"] == "cpu":
        kept = report.bars(
            {**results, **results["layers"]}, "steps", BARS, where={"cell": "lstm"}, ours="gaussjax-memory"
        )
        parts.append("For the LSTM:\n\n" + kept)
    parts.append("### One long sequence, by steps\n\nIn 32, hidden 64; µs a step of the sequence.")
    rows = []
    for cell in (LINEAR, "lstm"):
        cases = report.select(results["lengths"], {"cell": cell})
        found = [(case["case"]["steps"], case["times"].get("gaussjax-memory")) for case in cases]
        rows.append(
            [cell, *(report.number(1e6 * times["median"] / steps) if times else "failed" for steps, times in found)]
        )
    heads = [
        "",
        *(report.size_name(case["case"]["steps"]) for case in report.select(results["lengths"], {"cell": "lstm"})),
    ]
    return "\n\n".join([*parts, report.grid(heads, rows)])


def plots(results: dict[str, Any], folder: Any) -> str:
    shown = []
    for cell in (LINEAR, "lstm"):
        shown.append(
            report.plot(results["lengths"], "steps", folder, f"length-{cell}-{results['device']}", {"cell": cell})
        )
    return "\n\n".join(shown)

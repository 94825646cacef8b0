"""Time of an update of PPO for many seeds at once by `jax.vmap`, beside the same seeds one after the other."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import report, runner
from benchmarks.settings import SEEDS

CONTENDERS = ("gaussjax-seeds", "gaussjax-one-by-one")
NUMBER, BAR = 16, 1.2


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = list(SEEDS) if options.sizes is None else options.sizes.split(",")
    return runner.measure(
        "seeds", [{"of": name, "number": NUMBER} for name in names], CONTENDERS, [2] * len(names), options
    )


def markdown(results: dict[str, Any]) -> str:
    rows = []
    for case in results["cases"]:
        times = [case["times"].get(name) for name in CONTENDERS]
        if None in times:
            rows.append([case["case"]["of"], *["not measured"] * 5, ""])
            continue
        ours, others = times
        ratios = [ours[key] / others[key] for key in ("median", "fastest", "processor")]
        rows.append(
            [
                case["case"]["of"],
                *(f"{1e3 * each['median']:.0f}" for each in times),
                *(f"**{ratio:.2f}×**" for ratio in ratios),
                report.verdict(ratios[0] <= BAR, results),
            ]
        )
    heads = ["ms an update", "by vmap", f"{NUMBER} × one", "ratio of medians", "of fastest turns", "of processor time"]
    return report.grid([*heads, f"at most {BAR}×"], rows)

"""Rows per second of behavioural cloning, in whole epochs over a dataset in memory."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from benchmarks import peers, runner, throughput

CONTENDERS = ("gaussjax-training", "torch-cloning", "imitation")
# The sizes of HalfCheetah.
CASES = ({"rows": 1_000_000, "observations": 17, "actions": 6, "width": 256, "batch_size": 256},)
BARS = ((0, "torch-cloning", 2.0), (0, "imitation", 2.0))


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{**case, "rows": int(size)} for case in CASES for size in (options.sizes or f"{case['rows']}").split(",")]
    return runner.measure("cloning", cases, names, [1] * len(cases), options)


def steps(case: Mapping[str, Any]) -> int:
    """Rows of one call, which is an epoch."""
    return case["rows"]


def markdown(results: dict[str, Any]) -> str:
    heads = [
        "{rows:,} rows, {observations} observations, {actions} actions, {width} × {width}, minibatches of "
        "{batch_size}".format(**case["case"])
        for case in results["cases"]
    ]
    parts = [
        "Plain maximum likelihood with Adam: two hidden layers of tanh units and one trained log_std for each action, "
        "without normalisation of the observations. The loop in PyTorch has its rows in two tensors, a random "
        "permutation of row numbers for an epoch, and the fused Adam.",
        throughput.table(results, CONTENDERS, steps, heads, "rows a second"),
    ]
    if results["device"] == "cpu":
        parts.append(throughput.bars(results, CONTENDERS, BARS, heads, "rows"))
    return "\n\n".join(parts)

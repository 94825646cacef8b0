"""Time of `act` by width of the network and by number of devices."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import peers, report, runner

CONTENDERS = ("gaussjax", "skrl-torch", "distrax")
WIDTHS = (32, 64, 128, 256, 512, 1024)
DEVICES = (1, 2, 4, 8)
_BATCH, _SPREAD = 256, 65536


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = peers.chosen(CONTENDERS, options.peers)
    cases = [{"batch": _BATCH, "resident": False, "hidden": [width, width]} for width in report.sizes(options, WIDTHS)]
    results = {"width": runner.measure("act", cases, names, [3] * len(cases), options)}
    if options.device == "cpu":
        cases = [{"batch": _SPREAD, "devices": devices} for devices in DEVICES]
        results["devices"] = runner.measure("sharded", cases, ["gaussjax-devices"], [3] * len(cases), options)
    shares = [part["share_of_cpu_used_by_others"] for part in results.values()]
    return {**results, "share_of_cpu_used_by_others": max(shares)}


def markdown(results: dict[str, Any]) -> str:
    parts = [f"### Width\n\nTwo hidden layers of that width, batch {_BATCH}, NumPy in, NumPy out."]
    parts.append(report.table(results["width"], "hidden"))
    if "devices" in results:
        cores = results["machine"]["cores"] if "machine" in results else "the"
        parts.append(
            f"### Devices\n\nA batch of {_SPREAD} spread over devices that XLA is made to see in {cores} cores: it "
            "shows what spreading costs, and cannot show a gain beyond the cores."
        )
        parts.append(report.table(results["devices"], "devices"))
    return "\n\n".join(parts)


def plots(results: dict[str, Any], folder: Any) -> str:
    shown = [report.plot(results["width"], "hidden", folder, f"width-{results['device']}")]
    if "devices" in results:
        shown.append(report.plot(results["devices"], "devices", folder, f"devices-{results['device']}"))
    return "\n\n".join(shown)

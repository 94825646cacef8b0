"""Environment steps a second of trainings on environments of JAX packages, beside other libraries."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks import report, runner
from benchmarks.peers import CONTENDERS
from benchmarks.settings import CASES

_PROCESSES = 2


def run(options: argparse.Namespace) -> dict[str, Any]:
    known = [name for name, case in CASES.items() if case.speed is not None]
    names = known if options.sizes is None else options.sizes.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"--sizes: expected some of {', '.join(known)}, got {', '.join(unknown)}.")
    found = {
        name: runner.measure("training", [{"of": name}], list(CASES[name].arguments), [_PROCESSES], options)
        for name in names
    }
    busiest = max(results["share_of_cpu_used_by_others"] for results in found.values())
    return {"simulators": found, "share_of_cpu_used_by_others": busiest}


def markdown(results: dict[str, Any]) -> str:
    rows, missing = [], {}
    for name, measured in results["simulators"].items():
        case, found = CASES[name], measured["cases"][0]
        ours, *others = case.arguments
        steps = case.update_steps * case.calls
        for contender in (ours, *others):
            times = found["times"].get(contender)
            if times is None:
                reasons = {**measured["not_measured"], **found["refused"]}
                missing[f"{case.title}, {CONTENDERS[contender].title}"] = reasons[contender]
                continue
            slowest, fastest = (steps / quartile for quartile in reversed(times["quartiles"]))
            row = [
                case.title if contender == ours else "",
                CONTENDERS[contender].title,
                f"{steps / times['median']:,.0f} ({slowest:,.0f}–{fastest:,.0f})",
            ]
            if contender != ours and ours in found["times"]:
                reached = times["median"] / found["times"][ours]["median"]
                best, fastest, processor = (
                    times[key] / found["times"][ours][key] for key in ("best", "fastest", "processor")
                )
                kept = reached >= (case.speed or 0.0)
                row += [
                    f"≥ {case.speed}×",
                    f"**{reached:.2f}×**",
                    f"{best:.2f}×",
                    f"{fastest:.2f}×",
                    f"{processor:.2f}×",
                    report.verdict(kept, measured),
                ]
            rows.append(row + [""] * (9 - len(row)))
    heads = [
        "",
        "",
        "environment steps a second",
        "bar, ours ÷ theirs",
        "reached",
        "best processes",
        "fastest turns",
        "processor time",
        "",
    ]
    parts = [
        "PPO with the settings of the curves, rollouts and updates; all evaluations are off. Steps count each "
        "application of a repeated action. Both sides take turns. Where the columns of ratios disagree, the machine "
        "was too busy for a verdict; the processor time suffers least from other work.",
        report.grid(heads, rows),
    ]
    return "\n\n".join([*parts, report.not_measured(missing)] if missing else parts)

"""Time of the trainings of other libraries, with their own policies and with ours in place of these."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from benchmarks import runner, throughput
from benchmarks.settings import CASES


class Loop(NamedTuple):
    """A training of another library.

    Attributes:
        title: Name in the table.
        names: Contenders: with our policy, and with the library's own.
        steps: Environment steps, or observations, of a call.
        part: What a call does.
    """

    title: str
    names: tuple[str, str]
    steps: int
    part: str = "update"


def _skrl(framework: str) -> tuple[str, str]:
    return f"skrl-{framework}-inside", f"skrl-{framework}-own"


LOOPS = {
    "brax": Loop("brax's PPO, brax:reacher", ("brax-inside", "brax-own"), CASES["reacher"].update_steps),
    "skrl-torch": Loop("skrl's PPO (torch), Pendulum-v1", _skrl("torch"), 8 * 256),
    "skrl-jax": Loop("skrl's PPO (jax), Pendulum-v1", _skrl("jax"), 8 * 256),
    "skrl-torch-act": Loop("skrl (torch), actions and values without an agent", _skrl("torch"), 8, "act"),
    "skrl-jax-act": Loop("skrl (jax), actions and values without an agent", _skrl("jax"), 8, "act"),
}
_PROCESSES = 3


def run(options: argparse.Namespace) -> dict[str, Any]:
    # --sizes selects loops.
    found = {
        name: runner.measure("inside", [{"part": LOOPS[name].part}], LOOPS[name].names, [_PROCESSES], options)
        for name in (LOOPS if options.sizes is None else options.sizes.split(","))
    }
    busiest = max(results["share_of_cpu_used_by_others"] for results in found.values())
    return {"inside": found, "share_of_cpu_used_by_others": busiest}


def markdown(results: dict[str, Any]) -> str:
    loops = [(LOOPS[name], found) for name, found in results["inside"].items()]
    rows = [(loop.title, loop.names, loop.steps, None, found) for loop, found in loops]
    text = (
        "Rollouts and updates, with the library's own policy and with ours in its place: in brax the squashed policy "
        "of [other loops](../../docs/other_loops.md), in skrl the model of [the migration](../../docs/migration.md). "
        "All else is the same. The returns of these trainings are in [loops.md](loops.md) and "
        "[skrl_pendulum.md](skrl_pendulum.md). skrl's agents in JAX compile their models; without an agent skrl's "
        "model runs each operation on its own, and ours one compiled function."
    )
    return f"{text}\n\n{throughput.beside(rows)}"

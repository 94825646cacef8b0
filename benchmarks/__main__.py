"""`python -m benchmarks COMMAND`: measure, print the tables and write the results as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import history, machine, report, summary

# In the order of the page. A command is the module of its name, which is imported on demand and has
# run(options) -> plain data and markdown(results) -> str. An optional plots(results, folder) draws pictures
# and returns the Markdown that shows them. A module with PAGE writes its tables into a file of its own.
COMMANDS = {
    "main_job": "train PPO on Pendulum-v1 by the command line, seeds 0, 1 and 2, and evaluate 20 episodes",
    "learning": "train PPO and SAC on harder environments by the command line, and evaluate 20 episodes of each (days)",
    "act": "time of one call of act, by batch",
    "serving": "time of one call of act for few observations, run in the caller's thread",
    "evaluate": "time of the gradient of PPO's loss, by size of the minibatch",
    "recurrent": "time of the gradient of recurrent layers over sequences",
    "population": "time of one action of each of many policies",
    "ppo": "environment steps a second of PPO on Pendulum and HalfCheetah",
    "sac": "environment steps a second of SAC on HalfCheetah and Pendulum",
    "cloning": "rows a second of behavioural cloning",
    "cloning_shares": "clone trained policies by the command line, and compare returns with the teachers' (hours)",
    "compiled": "environment steps a second, and compile time, of PPO as one compiled program",
    "exploration": "train PPO and SAC with each kind of noise and policy, and measure return and smoothness (days)",
    "curves": "learning curves on environments of brax, Playground and gymnax, beside other libraries (hours)",
    "simulators": "environment steps a second on environments of brax, Playground and gymnax",
    "inside": "environment steps a second of trainings of other libraries, with our policy and with their own",
    "seeds": "time of an update of PPO for many seeds, in one program and one after the other",
    "startup": "time to import, to the first action and to the first PPO update",
    "tuning": "gain of settings of a process: wide vectors, calls in the caller's thread, cached programs",
    "scaling": "time of act by width of the network and by number of devices",
    "footprint": "memory of trainings, size of the package, time to import it, and time of its tests",
    "numerics": "accuracy of densities, entropies and divergences in units of roundoff",
}

_RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        command.add_argument(
            "--peers", help="comma-separated names of contenders, 'none' for gaussjax alone; default: all"
        )
        command.add_argument("--sizes", help="comma-separated sizes to measure; default: all")
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        command.add_argument("--processes", type=int, help="processes per contender")
        command.add_argument("--rounds", type=int, default=7, help="turns per contender and process")
        command.add_argument("--turn", type=float, default=0.05, help="approximate seconds of one turn")
        command.add_argument(
            "--environments",
            type=Path,
            default=Path(".peers"),
            help="folder of the peers' environments, made by `make bench-peers`",
        )
        command.add_argument(
            "--kept", action="store_true", help="curves, exploration: begin no training, take those that are done"
        )
        command.add_argument("--json", type=Path, help="file for the results")
        command.add_argument(
            "--resume",
            action="store_true",
            help="measure only what the file of --json does not have: all sizes and peers, of the present revision of "
            "the package, on a quiet machine. Without this option everything is measured anew",
        )
    page = commands.add_parser("report", help="write README.md and the plots from the results")
    page.add_argument("--folder", type=Path, default=_RESULTS)
    options = parser.parse_args(arguments)

    if options.command == "report":
        report.write({name: _module(name) for name in COMMANDS}, options.folder)
        if options.folder.resolve() == _RESULTS.resolve():
            made = {**summary.blocks(_RESULTS), **summary.comparison(_RESULTS)}
            for page in ("README.md", "docs/costs.md", "docs/data.md", "docs/exploration.md"):
                summary.fill(_RESULTS.parent.parent / page, made)
        return
    if options.resume and _finished(options.json):
        sys.stdout.write(f"{options.json} is of the present package. Measure anew without --resume.\n")
        return
    module = _module(options.command)
    results = measured(options.command, module, options)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(report.heading(results) + "\n" + module.markdown(results) + "\n")


def _module(command: str) -> Any:
    return importlib.import_module(f"benchmarks.{command}")


def _finished(file: Path | None) -> bool:
    """True if a file has the results of a whole command, of the present package and of a quiet machine."""
    if file is None or not file.exists():
        return False
    results = json.loads(file.read_text())
    part = results.get("sizes") or results.get("peers")
    return not part and report.quiet(results) and history.current(results["revision"])


def measured(command: str, module: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Results of a command, with the machine and its load.

    The load in a module's own results, measured in its turns only, replaces that of the watch.
    """
    watch = machine.Watch()
    results = module.run(options)
    return {
        "command": command,
        "device": options.device,
        "sizes": options.sizes,
        "peers": options.peers,
        **machine.describe(),
        **watch.stop(),
        **results,
    }


if __name__ == "__main__":
    main()

"""Runs the peers' tests with our distributions in their place, and writes the page of results.

A test may fail only if the table of exceptions names it, or if it fails with the peer's own classes too. A test that
the table names must fail.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import platform
import random
import re
import subprocess
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest

import gaussjax
from tests.peers.suites import SUITES, Suite

PACKAGES = {"distrax": "distrax", "tfp": "tfp-nightly", "torch": "torch"}


@contextlib.contextmanager
def replaced(suite: Suite) -> Iterator[types.ModuleType]:
    """Replaces the classes that a test file imports, in their modules and in the modules that their packages name."""
    adapters = importlib.import_module(f"tests.peers.in_{suite.peer}")
    modules: dict[str, dict[str, object]] = {}
    for target in suite.replaced:
        module, _, name = target.rpartition(".")
        modules.setdefault(module, {})[name] = getattr(adapters, name)
    with contextlib.ExitStack() as stack:
        for name, classes in modules.items():
            module = importlib.import_module(name)
            stack.enter_context(mock.patch.multiple(module, **classes))
            stack.enter_context(mock.patch(name, types.SimpleNamespace(**vars(module))))
        yield adapters


class Recorder:
    """Plugin of pytest that replaces classes while a test file is imported, and records the outcome of each test."""

    def __init__(self, suite: Suite, own: bool, only: list[str]):
        self.suite, self.own, self.only = suite, own, only
        self.outcomes: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector):
        if self.own or not isinstance(collector, pytest.Module):
            return (yield)
        with replaced(self.suite) as adapters:
            report = yield
        if report.passed:
            views = [vars(view) for view in vars(collector.obj).values() if isinstance(view, types.SimpleNamespace)]
            imported = {id(value) for names in (vars(collector.obj), *views) for value in names.values()}
            for target in self.suite.replaced:
                if id(getattr(adapters, target.rpartition(".")[2])) not in imported:
                    raise ValueError(f"{target}: expected that {self.suite.file} imports it. Correct suites.py.")
            if hasattr(adapters, "prepare"):
                adapters.prepare(collector.obj)
        return report

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = self.only or [_name(item) for item in items if re.fullmatch(self.suite.selected, _name(item))]
        items[:] = [item for item in items if _name(item) in chosen]
        self.outcomes.update({name: "not run" for name in chosen if re.fullmatch(self.suite.not_run, name)})
        items[:] = [item for item in items if _name(item) not in self.outcomes]

    def pytest_runtest_setup(self) -> None:
        # Some of the tests draw their numbers from the generators of Python and NumPy without a seed.
        random.seed(0)
        np.random.seed(0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = report.outcome if report.when == "call" or report.outcome != "passed" else None
        before = self.outcomes.get(_name(report))
        if outcome and before != "failed" and (before is None or outcome == "failed"):
            self.outcomes[_name(report)] = outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes["collection"] = "failed"


def _name(test: pytest.Item | pytest.TestReport) -> str:
    """Class and name of a test, without its file."""
    return test.nodeid.partition("::")[2]


def source(suite: Suite, folder: Path, scratch: Path) -> Path:
    """Path of a test file that this process can import."""
    if suite.peer == "distrax":
        return Path(importlib.util.find_spec("distrax").origin).parent / "_src" / suite.file
    if suite.peer == "torch":
        return folder / "pytorch/test" / suite.file
    import jax
    from absl import flags

    # TFP's tests are written for TensorFlow, and its own script rewrites them for JAX. The package lacks two helpers.
    sources = folder / "probability/tensorflow_probability"
    for file in (suite.file, "bijectors/bijector_test_util.py", "internal/hypothesis_testlib.py"):
        command = [sys.executable, str(sources / "substrates/meta/rewrite.py"), str(sources / "python" / file)]
        text = subprocess.run([*command, "--numpy_to_jax"], check=True, capture_output=True).stdout
        (scratch / file).parent.mkdir(exist_ok=True)
        (scratch / file).write_bytes(text)
        package = importlib.import_module(f"tensorflow_probability.substrates.jax.{Path(file).parent}")
        package.__path__.append(str((scratch / file).parent))
    flags.FLAGS(["tests"])
    jax.config.update("jax_enable_x64", True)
    return scratch / suite.file


def child(suite: Suite, folder: Path, own: bool, only: list[str]) -> dict[str, str]:
    """Outcome of each test of a file, which runs in this process."""
    importlib.import_module(f"tests.peers.in_{suite.peer}")
    recorder = Recorder(suite, own, only)
    with tempfile.TemporaryDirectory() as scratch:
        path = str(source(suite, folder, Path(scratch)))
        options = ["-q", "--tb=short", "--no-header", "-W", "ignore", "-p", "no:cacheprovider", "-c", "/dev/null"]
        pytest.main([*options, "--import-mode=importlib", "--rootdir", str(Path(path).parent), path], [recorder])
    return recorder.outcomes


class Result(NamedTuple):
    """Tests of a file by outcome; `inapplicable` has the reason of each."""

    suite: Suite
    passed: list[str]
    skipped: list[str]
    inapplicable: dict[str, str]
    broken: list[str]
    failed: list[str]
    faults: list[str]


def run(index: int, folder: Path, kept: Path) -> Result:
    """Outcomes of a test file, from a process of its own; what fails there also runs with the peer's own classes.

    The outcomes are kept in the folder `kept`, so that a run that was interrupted continues.
    """
    suite = SUITES[index]
    found = _outcomes(index, folder, kept / f"{suite.peer}-{Path(suite.file).stem}.json")
    names = {kind: [name for name, outcome in found.items() if outcome == kind] for kind in set(found.values())}
    passed, failed = names.get("passed", []), names.get("failed", [])
    inapplicable = {
        name: reason
        for pattern, reason in suite.exceptions.items()
        for name in (*failed, *names.get("not run", ()))
        if re.fullmatch(pattern, name)
    }
    failed = [name for name in failed if name not in inapplicable]
    path = kept / f"{suite.peer}-{Path(suite.file).stem}-own.json"
    own = _outcomes(index, folder, path, "--own", "--only", *failed) if failed else {}
    broken = [name for name in failed if own.get(name) == "failed"]
    failed = [name for name in failed if name not in broken]
    faults = [f"{suite.file}: {name} fails." for name in failed]
    for pattern in suite.exceptions:
        passing = [name for name in passed if re.fullmatch(pattern, name)]
        faults += [f"{suite.file}: {name} passes, but is an exception." for name in passing]
        if not any(re.fullmatch(pattern, name) for name in found):
            faults.append(f"{suite.file}: no test is called {pattern}.")
    return Result(suite, passed, names.get("skipped", []), inapplicable, broken, failed, faults)


def _outcomes(index: int, folder: Path, kept: Path, *options: str) -> dict[str, str]:
    if not kept.exists():
        command = [sys.executable, "-m", "tests.peers.run", str(folder), "--suite", str(index), "--out", str(kept)]
        subprocess.run([*command, *options], check=True)
    return json.loads(kept.read_text())


def page(results: list[Result], folder: Path) -> str:
    """The page of results, as Markdown."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", *PACKAGES.values()))
    lines = [
        "# Tests of the peers",
        "",
        f"Written by `make test-peers`: gaussjax {gaussjax.__version__}, {versions}, Python "
        f"{platform.python_version()}, {platform.system()}. The peers' own test files run with our distributions in "
        "the place of the classes in the third column, through the adapters in `tests/peers`. Constructors, checks of "
        "arguments, slices and transformations other than tanh are the peer's; ours compute every other "
        "result. No file is changed; the "
        "second column has the first digits of its SHA-256. Tests about other distributions are left out, and so are "
        "covariances of low rank, which gaussjax does not have. Where a test goes through examples of all "
        "distributions of torch, it goes through those of the three classes.",
        "",
        "| peer | test file | ours in place of | passed | skipped by the peer | fails with the peer's class too | "
        "does not apply | failed |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for one in results:
        suite = one.suite
        paths = {"tfp": folder / "probability/tensorflow_probability/python" / suite.file}
        path = paths.get(suite.peer) or source(suite, folder, Path())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        classes = ", ".join(target.rpartition(".")[2] for target in suite.replaced)
        counts = {
            "passed": len(one.passed),
            "skipped": len(one.skipped),
            "broken": len(one.broken),
            "inapplicable": len(one.inapplicable),
            "failed": len(one.failed),
        }
        total.update(counts)
        columns = " | ".join(str(count) for count in counts.values())
        lines.append(f"| {suite.peer} | `{suite.file}` {digest} | {classes} | {columns} |")
    lines.append(f"| all | | | {' | '.join(str(total[kind]) for kind in counts)} |")
    lines += ["", "## Tests that do not apply", "", "| peer | test file | tests | reason |", "|---|---|---:|---|"]
    for one in results:
        for reason, count in Counter(one.inapplicable.values()).items():
            lines.append(f"| {one.suite.peer} | `{one.suite.file}` | {count} | {reason} |")
    for title, kind in (("Tests that fail with the peer's own classes too", "broken"), ("Failed tests", "failed")):
        tests = [f"- `{one.suite.file}`: `{name}`" for one in results for name in getattr(one, kind)]
        lines += ["", f"## {title}", "", *(tests or ["None."])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the checkouts probability and pytorch")
    parser.add_argument("--out", type=Path, required=True, help="page to write")
    parser.add_argument(
        "--kept", type=Path, default=Path(".peers/outcomes"), help="folder of outcomes to continue from"
    )
    parser.add_argument("--suite", type=int, help="run this one test file here, and write its outcomes as JSON")
    parser.add_argument("--own", action="store_true", help="with the peer's own classes")
    parser.add_argument("--only", nargs="*", default=[], help="names of tests")
    options = parser.parse_args()
    if options.suite is not None:
        found = child(SUITES[options.suite], options.folder, options.own, options.only)
        options.out.write_text(json.dumps(found))
        return
    options.kept.mkdir(parents=True, exist_ok=True)
    results = [run(index, options.folder, options.kept) for index in range(len(SUITES))]
    options.out.write_text(page(results, options.folder), encoding="utf-8")
    faults = [fault for one in results for fault in one.faults]
    sys.exit("\n".join(faults) if faults else 0)


if __name__ == "__main__":
    main()

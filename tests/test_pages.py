"""README and the pages of docs/: their code runs without a warning, and the tests that they name exist."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gaussjax.cli.main import parse

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *sorted(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").glob("*.md"))]

# One process runs all pages, because imports take most of the time of a page.
DRIVER = """
import contextlib, io, json, runpy, sys, traceback
found = {}
for page, program in json.loads(sys.argv[1]).items():
    printed, error = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(program)
    except BaseException:
        error = traceback.format_exc()
    found[page] = [printed.getvalue(), error]
print(json.dumps(found))
"""


def text(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def code(page: str, language: str) -> list[str]:
    """The lines of a page, empty outside code, so that a traceback has the line numbers of the page."""
    lines, inside = [], False
    for line in text(page).splitlines():
        if re.fullmatch(r"\s*```.*", line):
            inside = not inside and line.strip() == f"```{language}"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return lines


def cells(page: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of the tables of a page, with their line numbers."""
    for number, line in enumerate(text(page).splitlines(), 1):
        if re.match(r"\|(?! *-)", line):
            yield number, [cell.strip() for cell in line.strip("|").split("|")]


# `make test-loops` runs the code of one page, which needs other libraries.
WITH_CODE = [page for page in PAGES if any(code(page, "python")) and page != "docs/other_loops.md"]


@pytest.fixture(scope="module")
def ran(request, tmp_path_factory):
    """What the code of each selected page printed, and its error."""
    folder = tmp_path_factory.mktemp("pages")
    programs = {}
    for item in request.session.items:
        if getattr(item, "originalname", None) == "test_the_code_of_the_page_runs":
            page = item.callspec.params["page"]
            programs[page] = str(folder / page.replace("/", "_")) + ".py"
            Path(programs[page]).write_text("\n".join(code(page, "python")) + "\n", encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", DRIVER, json.dumps(programs)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


# Most of a page's time is compilation; the functions of the pages in docs/ have examples and tests that run always.
@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=() if p == "README.md" else pytest.mark.slow) for p in WITH_CODE]
)
def test_the_code_of_the_page_runs(ran, page):
    printed, error = ran[page]
    assert error == ""
    # The comment after a print is its expected output.
    promised = [match[1] for line in code(page, "python") if (match := re.match(r"\s*print\(.*\)  # (.+)", line))]
    assert [line for line in promised if line not in printed.splitlines()] == []


def commands(page: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in code(page, "bash"))
    return [line for line in lines if line]


@pytest.mark.parametrize("page", [page for page in PAGES if any(code(page, "bash"))])
def test_the_commands_of_the_page_exist(page):
    targets = re.findall(r"^([\w-]+):", text("Makefile"), flags=re.MULTILINE)
    for command in commands(page):
        program, *words = command.removeprefix("srun ").split()
        if program == "make":
            assert [word for word in words if "=" not in word and word not in targets] == [], command
        elif program == "pip":
            extras = re.findall(r"^([\w-]+) = \[", text("pyproject.toml").partition("optional-dependencies]")[2], re.M)
            asked = re.search(r"\[([\w,-]+)\]", command)
            assert words[0] == "install", command
            assert not asked or set(asked[1].split(",")) <= set(extras), command
        else:
            assert program in ("gaussjax", ".venv/bin/gaussjax"), command
            if words[-1] != "--help":
                parse(words)


# Another page converts checkpoints of users; `tests/cli` and `tests/interop` convert others.
@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(code(p, "bash")) and p != "docs/other_libraries.md"])
def test_the_commands_of_the_page_run(page, tmp_path):
    rng = np.random.default_rng(0)
    recorded = {"observations": rng.normal(size=(512, 3)), "actions": rng.uniform(-2.0, 2.0, (512, 1))}
    recorded["starts"] = np.arange(512) % 32 == 0
    np.savez(tmp_path / "recorded.npz", **recorded)
    program = Path(sys.executable).with_name("gaussjax")
    own = {**os.environ, "MINARI_DATASETS_PATH": str(tmp_path / "minari")}
    for command in commands(page):
        words = command.split()[1:]
        if not command.startswith((".venv/bin/gaussjax", "gaussjax")):
            continue
        # A finished training has nothing to resume, and SAC's million steps would take hours.
        if words[0] == "resume" or ("sac" in words and "--total-steps" not in words):
            continue
        # tests/training/test_parallel.py starts several processes.
        if "--distributed" in words and "local" not in words:
            continue
        finished = subprocess.run(
            [str(program), *words], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=1200
        )
        assert finished.returncode == 0, (command, finished.stderr)


def is_test(path: str, name: str) -> bool:
    file = REPOSITORY / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def test_each_row_of_the_migration_is_held_by_a_test_that_exists():
    rows = [(number, row) for number, row in cells("docs/migration.md") if row[-1] != "test"]
    assert len(rows) >= 30
    for number, row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[-1])
        assert named, f"docs/migration.md:{number}: no test in {row[-1]!r}"
        assert [name for name in named if not is_test(*name)] == [], f"docs/migration.md:{number}"


def test_each_of_our_cells_beside_other_libraries_is_held_by_a_test_that_exists():
    head, *rows = [row for _, row in cells("docs/compare.md")]
    named = re.findall(r"^- (.+): `(tests/[\w/]+\.py)::(test_\w+)`$", text("docs/compare.md"), re.MULTILINE)
    assert [feature for feature, *_ in named] == [row[0] for row in rows if row[head.index("gaussjax")] != "no"]
    assert len(named) >= 12
    assert [test for _, *test in named if not is_test(*test)] == []

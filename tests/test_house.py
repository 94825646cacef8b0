"""The rooms of the package: the disk, the import contract and the map of CONTRIBUTING agree."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "gaussjax"
FILES = sorted(path.relative_to(REPOSITORY).as_posix() for path in PACKAGE.rglob("*.py"))
HOUSE = "docs/how_it_is_built.md"


def text(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def floors(page: str) -> dict[int, set[str]]:
    """The rooms by floor in a page's table, whose rows begin with the floor and its rooms."""
    found: dict[int, set[str]] = {}
    for floor, rooms in re.findall(r"^\| (\d) \| (`[^|]+`) \|", text(page), flags=re.MULTILINE):
        found.setdefault(int(floor), set()).update(re.findall(r"`(\w+)`", rooms))
    return found


@pytest.fixture(scope="module")
def contract() -> dict[int, set[str]]:
    """The rooms by floor in the import contract, whose last layer is the first floor."""
    contracts = tomllib.loads(text("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    return {
        floor: {name.strip().removeprefix("gaussjax.") for name in re.split(r"[|:]", layer)}
        for floor, layer in enumerate(reversed(layers), 1)
    }


def test_the_contract_names_every_room_on_disk(contract):
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert set().union(*contract.values()) == folders | modules


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", HOUSE])
def test_the_maps_agree_with_the_contract(contract, page):
    assert floors(page) == contract


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", HOUSE])
def test_every_file_that_a_page_names_exists(page):
    named = re.findall(r"`((?:gaussjax|tests|benchmarks|docs)/[\w./]+|\w+\.(?:md|toml|txt))`", text(page))
    assert len(named) >= 15
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_twenty_changes_have_a_file():
    changes = re.findall(r"^\| [^|]+ \| `gaussjax/[\w/]+\.py`", text(HOUSE), flags=re.MULTILINE)
    assert len(changes) == 20


def test_contributing_fits_on_one_screen():
    assert len(text("CONTRIBUTING.md").splitlines()) <= 60


@pytest.mark.parametrize("file", FILES)
def test_a_file_holds_one_idea(file):
    assert Path(file).stem not in {"utils", "util", "common", "types", "base", "helpers", "misc"}
    assert len(text(file).splitlines()) <= 350


@pytest.mark.parametrize("file", FILES)
def test_a_test_that_a_comment_names_exists(file):
    # A long path breaks after the comment's "# ".
    words = re.sub(r"\n\s*# ", " ", text(file))
    for path, name in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", words):
        assert f"def {name}" in text(path), f"{file} names {path}::{name}"

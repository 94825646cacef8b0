"""Every notebook equals its source, has its outputs, and gives the same numbers when it is executed again."""

import ast
import math
import re

import pytest

from tests.notebooks import pair

EACH = pytest.mark.parametrize("source", pair.sources(), ids=lambda source: source.stem)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?")
# Addresses of objects, temporary files and packages would differ everywhere.
NOISE = re.compile(r"\b0x[0-9a-f]{6,}|/tmp/|/home/|site-packages")
# A last call of these names returns nothing to print.
SILENT = {"save"}


def speaks(code: str) -> bool:
    """Whether a cell prints, shows a picture or ends with a value."""
    body = ast.parse(code).body
    statements = [part for part in body if not isinstance(part, ast.FunctionDef | ast.ClassDef)]
    names = [
        node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        for part in statements
        for node in ast.walk(part)
        if isinstance(node, ast.Call)
    ]
    last = body[-1].value if isinstance(body[-1], ast.Expr) else None
    silent = isinstance(last, ast.Call) and getattr(last.func, "attr", "") in SILENT
    return bool({"print", "show"} & set(names)) or (last is not None and not silent)


def text(output) -> str:
    return output.text if output.output_type == "stream" else output.data.get("text/plain", "")


def agree(committed: str, found: str) -> bool:
    """Whether two texts have the same words and integers, and decimals that differ by less than a tenth.

    The notebooks print rounding errors with an exponent, and only the order of magnitude of these is the same on all
    processors.
    """
    numbers = [NUMBER.findall(one) for one in (committed, found)]
    words = ["".join(NUMBER.sub("#", one).split()) for one in (committed, found)]
    if words[0] != words[1]:
        return False
    for old, new in zip(*numbers, strict=True):
        whole = not re.search(r"[.e]", old + new)
        relative = 0.0 if whole else 0.9 if "e" in old + new else 0.1
        one, other = (float(number.replace(",", "")) for number in (old, new))
        if not math.isclose(one, other, rel_tol=relative, abs_tol=0.0 if whole else 1e-5):
            return False
    return True


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("mean 1.50 of (5, 2), rounding 3e-04", True),
        ("mean  1.55 of ( 5, 2),\nrounding 9.1e-05", True),
        ("mean 1.70 of (5, 2), rounding 3e-04", False),
        ("mean 1.50 of (5, 3), rounding 3e-04", False),
        ("mean 1.50 of (5, 2), rounding 4e-03", False),
        ("mean nan of (5, 2), rounding 3e-04", False),
        ("width 1.50 of (5, 2), rounding 3e-04", False),
    ],
)
def test_texts_agree_up_to_small_differences_of_decimals(found, expected):
    assert agree("mean 1.50 of (5, 2), rounding 3e-04", found) is expected


@EACH
def test_a_notebook_is_its_source_converted(source):
    made = pair.committed(source)
    for cell in pair.code(made):
        cell.update(execution_count=None, outputs=[])
    assert made == pair.notebook(source), "run `make notebooks`"


@EACH
def test_the_committed_outputs_are_complete_and_clean(source):
    cells = pair.code(pair.committed(source))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [bool(cell.outputs) for cell in cells] == [speaks(cell.source) for cell in cells]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    assert [found for output in outputs if (found := NOISE.search(text(output)))] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert source.with_suffix(".ipynb").stat().st_size < 400_000


@pytest.mark.slow
@EACH
def test_execution_gives_the_committed_outputs(source):
    for old, new in zip(pair.code(pair.committed(source)), pair.code(pair.executed(source)), strict=True):
        assert len(old.outputs) == len(new.outputs), old.source
        for one, other in zip(old.outputs, new.outputs, strict=True):
            assert one.get("data", {}).keys() == other.get("data", {}).keys(), old.source
            assert agree(text(one), text(other)), (old.source, text(one), text(other))


@EACH
def test_the_first_code_installs_on_colab_alone(source):
    first = pair.code(pair.notebook(source))[0].source
    assert 'if "google.colab" in sys.modules:' in first
    assert "pip" in first


def test_every_notebook_has_a_source():
    assert sorted(pair.FOLDER.glob("*.ipynb")) == [source.with_suffix(".ipynb") for source in pair.sources()]
    assert pair.sources()

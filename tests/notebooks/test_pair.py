"""Every notebook equals its source and has no outputs."""

import json

import pytest

from tests.notebooks import pair


@pytest.mark.parametrize("source", pair.sources(), ids=lambda source: source.stem)
def test_a_notebook_is_its_source_converted(source):
    committed = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert committed == pair.notebook(source), "run `make notebooks`"


@pytest.mark.parametrize("source", pair.sources(), ids=lambda source: source.stem)
def test_outputs_are_stripped_and_the_first_code_installs_on_colab_alone(source):
    cells = json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert {cell["execution_count"] for cell in code} == {None}
    first = "".join(code[0]["source"])
    assert 'if "google.colab" in sys.modules:' in first
    assert "pip" in first


def test_every_notebook_has_a_source():
    assert sorted(pair.FOLDER.glob("*.ipynb")) == [source.with_suffix(".ipynb") for source in pair.sources()]
    assert pair.sources()

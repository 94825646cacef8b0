"""Notebooks from their percent sources: `python -m tests.notebooks.pair [02_training_loop …]`.

Executes each notebook that is named, or without names each whose code has changed, and writes its `.ipynb` with the
outputs. Changed prose alone keeps the outputs.
"""

import base64
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# The kernel itself warns when it shuts down, which no notebook can prevent.
_STRICT = """\
import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel|jupyter_client|traitlets|tornado|zmq")
"""
# A figure of 7 inches fills the width of a page.
_SETTINGS = """\
c = get_config()
c.InlineBackend.rc = {"figure.dpi": 100, "savefig.dpi": 100}
c.IPKernelApp.log_level = 40
"""


def sources() -> list[Path]:
    """The percent sources, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def notebook(source: Path) -> NotebookNode:
    """The notebook of a source, without outputs; cells are named by their position."""
    read = jupytext.read(source, fmt="py:percent")
    cells = []
    for i, cell in enumerate(read.cells):
        made = {"cell_type": cell.cell_type, "id": f"cell-{i}", "metadata": {}, "source": cell.source}
        cells.append(made | {"execution_count": None, "outputs": []} if cell.cell_type == "code" else made)
    return nbformat.from_dict({"cells": cells, "metadata": {"kernelspec": _KERNEL}, "nbformat": 4, "nbformat_minor": 5})


def code(made: NotebookNode) -> list[NotebookNode]:
    """The code cells of a notebook."""
    return [cell for cell in made.cells if cell.cell_type == "code"]


@contextmanager
def _kernel_of_this_environment() -> Iterator[None]:
    """A kernel without the user's settings, in which warnings are errors."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile_default"
        (profile / "startup").mkdir(parents=True)
        (profile / "startup" / "00_strict.py").write_text(_STRICT, encoding="utf-8")
        (profile / "ipython_kernel_config.py").write_text(_SETTINGS, encoding="utf-8")
        with mock.patch.dict(os.environ, {"IPYTHONDIR": folder, "JUPYTER_PREFER_ENV_PATH": "1"}):
            yield


def _small(png: str) -> str:
    """A PNG with at most 128 colours, and without the version of the program that wrote it."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if getattr(picture, "is_animated", False):
        return png
    written = io.BytesIO()
    picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def executed(source: Path) -> NotebookNode:
    """The notebook of a source with its outputs, which hold no times and no settings."""
    made = notebook(source)
    client = NotebookClient(made, timeout=600, record_timing=False, coalesce_streams=True)
    with _kernel_of_this_environment():
        client.execute(cwd=str(FOLDER))
    made.metadata = {"kernelspec": _KERNEL}
    for cell in code(made):
        cell.metadata = {}
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = {}
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _small(output.data["image/png"])
    return made


def write(source: Path, made: NotebookNode) -> None:
    """Writes a notebook beside its source."""
    nbformat.validate(made)
    source.with_suffix(".ipynb").write_text(nbformat.writes(made) + "\n", encoding="utf-8")


def committed(source: Path) -> NotebookNode:
    """The notebook beside a source; without one, a notebook without cells."""
    path = source.with_suffix(".ipynb")
    return nbformat.read(path, as_version=4) if path.exists() else nbformat.v4.new_notebook()


def main(names: list[str]) -> None:
    """Writes the notebooks that are named, or without names all; only changed code is executed."""
    for source in sources():
        made, old = notebook(source), committed(source)
        if source.stem in names or (not names and [c.source for c in code(old)] != [c.source for c in code(made)]):
            print(source.stem, flush=True)
            write(source, executed(source))
        elif not names:
            for cell, kept in zip(code(made), code(old), strict=True):
                cell.update(execution_count=kept.execution_count, outputs=kept.outputs)
            write(source, made)


if __name__ == "__main__":
    main(sys.argv[1:])

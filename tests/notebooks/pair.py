"""Notebooks from their percent sources: `python -m tests.notebooks.pair` writes every `.ipynb`."""

from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """The percent sources, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def notebook(source: Path) -> str:
    """The `.ipynb` text of a source, without outputs; cells are named by their position."""
    read = jupytext.read(source, fmt="py:percent")
    cells = []
    for i, cell in enumerate(read.cells):
        made = {"cell_type": cell.cell_type, "id": f"cell-{i}", "metadata": {}, "source": cell.source}
        cells.append(made | {"execution_count": None, "outputs": []} if cell.cell_type == "code" else made)
    content = {"cells": cells, "metadata": {"kernelspec": _KERNEL}, "nbformat": 4, "nbformat_minor": 5}
    made = nbformat.from_dict(content)
    nbformat.validate(made)
    return nbformat.writes(made) + "\n"


if __name__ == "__main__":
    for source in sources():
        source.with_suffix(".ipynb").write_text(notebook(source), encoding="utf-8")

"""The public names and their signatures, compared with `public_names.txt`.

`python -m tests.test_public --write` writes the file anew.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docs import public

SNAPSHOT = Path(__file__).with_name("public_names.txt")
PACKAGE = Path(__file__).resolve().parent.parent / "gaussjax"
# Private rooms: users call neither.
PRIVATE = ("gaussjax.cli", "gaussjax.core")


def rooms() -> list[str]:
    """The modules whose names are public: the rooms, and the modules that the reference describes."""
    folders = [path.parent for path in PACKAGE.rglob("__init__.py")]
    files = [path.with_suffix("") for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    names = {".".join(path.relative_to(PACKAGE.parent).parts) for path in folders + files}
    return sorted(name for name in names.union(public.MODULES) if not name.startswith(PRIVATE))


def exported(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Names that a module defines, or imports as `X as X`."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    passed_on = set(re.findall(r"^from \S+ import (\w+) as \1$", source, flags=re.MULTILINE))
    for name, value in sorted(vars(module).items()):
        own = getattr(value, "__module__", None) == module.__name__ and not isinstance(value, ModuleType)
        if not name.startswith("_") and (name in passed_on or own):
            yield name, value


class Text(str):
    """An annotation as its text, whatever the version of Python that reads it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = []
    for parameter in found.parameters.values():
        kind = parameter.annotation
        # Flax adds these two to every module; their annotations change with its version.
        if parameter.name in ("parent", "name") and "parent" in found.parameters:
            continue
        if kind is not parameter.empty and not isinstance(kind, str):
            kind = getattr(kind, "__forward_arg__", None) or inspect.formatannotation(kind)
        kind = kind if kind is parameter.empty else Text(kind)
        if callable(parameter.default) and parameter.default is not parameter.empty:
            parameter = parameter.replace(default=Text(parameter.default.__name__))
        parameters.append(parameter.replace(annotation=kind))
    returned = found.return_annotation
    if isinstance(returned, str):
        returned = Text(returned)
    return str(inspect.Signature(parameters, return_annotation=returned))


def line(module: str, name: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"{module}.{name}: module"
    if not callable(value) or value is Any:
        return f"{module}.{name}: {'Any' if value is Any else type(value).__name__}"
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"{module}.{name}: {value.__base__.__name__}"
    return f"{module}.{name}{signature(value)}"


def snapshot() -> str:
    lines = [line(room, *found) for room in rooms() for found in exported(importlib.import_module(room))]
    return "\n".join(lines) + "\n"


def test_public_names_and_signatures_are_those_of_the_snapshot():
    kept, found = SNAPSHOT.read_text(encoding="utf-8").splitlines(), snapshot().splitlines()
    changes = "\n".join(difflib.unified_diff(kept, found, "public_names.txt", "the package", lineterm="", n=0))
    assert kept == found, (
        f"{changes}\nThe public interface changed. CHANGELOG.md needs a line that names the change; then run "
        f"`python -m tests.test_public --write`."
    )


@pytest.mark.parametrize("module", public.MODULES)
def test_the_reference_has_each_function_and_class(module):
    described = {found.name for found in public.names(module)}
    for name, value in exported(importlib.import_module(module)):
        if (inspect.isfunction(value) or inspect.isclass(value)) and value is not Any:
            assert f"{module}.{name}" in described


if __name__ == "__main__" and "--write" in sys.argv:
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")

"""Names that the reference describes, for each module in modules.txt.

They are read from the source without importing it, so that the test of the docstrings is fast.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MODULES = tuple((ROOT / "docs" / "modules.txt").read_text(encoding="utf-8").split())


class Public(NamedTuple):
    """A public function, class or method.

    Attributes:
        name: Full name, such as `gaussjax.networks.MLP`.
        node: Syntax tree of its definition.
        bases: For a method, the same method in the base classes.
    """

    name: str
    node: ast.FunctionDef | ast.ClassDef
    bases: tuple[ast.FunctionDef, ...] = ()


def names(module: str) -> Iterator[Public]:
    """Functions and classes that a module defines, or exports as `X as X`."""
    for statement in _source(module).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and not statement.name.startswith("_"):
            yield Public(f"{module}.{statement.name}", statement)
        elif isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                found = _definition(f"{statement.module}", alias.name) if alias.asname == alias.name else None
                if found is not None:
                    yield Public(f"{module}.{alias.name}", found)


def methods(module: str, owner: Public) -> Iterator[Public]:
    """The public methods of a class."""
    if isinstance(owner.node, ast.ClassDef):
        parents = list(_ancestors(owner.node, module))
        for node in owner.node.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                same = (part for parent in parents for part in parent.body if isinstance(part, ast.FunctionDef))
                bases = tuple(part for part in same if part.name == node.name)
                yield Public(f"{owner.name}.{node.name}", node, bases)


def _ancestors(node: ast.ClassDef, module: str) -> Iterator[ast.ClassDef]:
    for base in node.bases:
        found = _anywhere(base.id, module) if isinstance(base, ast.Name) else None
        if found is not None:
            yield found
            yield from _ancestors(found, module)


@cache
def _source(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _definition(module: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The definition of a name, followed through re-exports; None for a module or a constant."""
    if not module.startswith("gaussjax") or not _exists(module):
        return None
    for statement in _source(module).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return statement
        # `name = wrap(package.name)` has the docstring of the wrapped function.
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call) and statement.value.args:
            wrapped = statement.value.args[0]
            if ast.unparse(statement.targets[0]) == name and ast.unparse(wrapped) == f"policies.{name}":
                return _definition("gaussjax.policy", name)
        # `from package import module as module` exports a module, which has no definition.
        passes_on = isinstance(statement, ast.ImportFrom) and statement.module != module
        if passes_on and any(alias.name == name and alias.asname in (None, name) for alias in statement.names):
            return _definition(f"{statement.module}", name)
    return None


def _anywhere(name: str, module: str) -> ast.ClassDef | None:
    folder = ROOT.joinpath(*module.split("."))
    files = folder.glob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    for path in files:
        inner = ".".join(path.with_suffix("").relative_to(ROOT).parts)
        found = _definition(inner, name)
        if isinstance(found, ast.ClassDef):
            return found
    return None

"""Docstrings of each public function and class, read from the source without imports."""

import ast
import re

import pytest

from docs import public

FOUND = [(module, found) for module in public.MODULES for found in public.names(module)]
FUNCTIONS = {found.name: found for _, found in FOUND if isinstance(found.node, ast.FunctionDef)}
CLASSES = {found.name: found for _, found in FOUND if isinstance(found.node, ast.ClassDef)}
# Flax and the policy call the methods of networks.
METHODS = {
    method.name: method
    for module, found in FOUND
    for method in public.methods(module, found)
    if module != "gaussjax.networks"
}

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Source", "Note")


def sections(node: ast.FunctionDef | ast.ClassDef) -> dict[str, str]:
    """The text of a docstring by section; the key of the text before the first section is ""."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):$", ast.get_docstring(node) or "", flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def arguments(node: ast.FunctionDef) -> set[str]:
    given = node.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    named += [argument.arg for argument in (given.vararg, given.kwarg) if argument is not None]
    return set(named)


def described(text: str) -> set[str]:
    return set(re.findall(r"^    \*{0,2}(\w+): ", text, flags=re.MULTILINE))


def returns(node: ast.FunctionDef) -> bool:
    return ast.unparse(node.returns or ast.Constant(None)) not in ("None", "Iterator[None]", "NoReturn")


def is_error(node: ast.ClassDef) -> bool:
    return node.name.endswith("Error")


def is_record(node: ast.ClassDef) -> bool:
    """True for a NamedTuple, which users receive and do not make."""
    return any(ast.unparse(base) == "NamedTuple" for base in node.bases)


def fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    return [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *METHODS])
def test_the_first_line_is_a_sentence_of_one_line(name):
    node = {**FUNCTIONS, **CLASSES, **METHODS}[name].node
    first = (ast.get_docstring(node) or "").partition("\n")[0]
    assert first, f"{name} has no docstring"
    # It ends on this line: as a sentence, or with a colon before a list.
    assert first[-1] in ".:" or len(first) >= 80, first


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_refuses_and_has_an_example_that_runs(name):
    node = FUNCTIONS[name].node
    found = sections(node)
    assert arguments(node) == described(found.get("Args", "")), "Args name the arguments"
    assert not returns(node) or {"Returns", "Yields"} & set(found), "no Returns"
    raised = any(isinstance(part, ast.Raise) and part.exc is not None for part in node.body for part in ast.walk(part))
    assert not raised or "Raises" in found, "no Raises"

    example = found.get("Example", "")
    assert ">>> " in example
    assert "+SKIP" not in example


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_describes_its_fields_and_has_an_example_if_users_make_it(name):
    node = CLASSES[name].node
    text = described(sections(node).get("Attributes", ""))
    # A field may have its own docstring below it instead.
    own = {
        field.target.id
        for field, after in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    public_fields = {field.target.id for field in fields(node) if not field.target.id.startswith("_")}
    assert public_fields - text - own == set()

    made_by_users = not (is_record(node) or is_error(node) or name in NOT_MADE)
    assert not made_by_users or ">>> " in sections(node).get("Example", "")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_takes(name):
    method = METHODS[name]
    # The docstring of an overridden method counts too.
    texts = [ast.get_docstring(node) or "" for node in (method.node, *method.bases)]
    for argument in arguments(method.node) - {"self", "cls"}:
        assert any(re.search(rf"\b{argument}\b", text) for text in texts), argument


# Classes that functions of their modules make, and base classes.
NOT_MADE = {"gaussjax.Loaded", "gaussjax.distributions.Distribution", "gaussjax.Spec", "gaussjax.policy.Spec"}

"""Expressions for the inputs of a graph's nodes and for output activations.

An expression has the form `observations`, `node_name`, `observations["image"]`, `state[0:3]`, `concatenate([a, b])`,
`a + b`, `a * b`, `2 * a`, `0.5 + a` or `tanh(a)`, with any activation for tanh. Its text is parsed into tuples, which
nothing executes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gaussjax.core.choices import choose
from gaussjax.core.text import quoted
from gaussjax.networks.layers import ACTIVATIONS, Activation, activation

_LONGEST = 1000
_LARGEST = 1e38  # Numbers up to this one are finite in float32.


def parse(text: Any, names: Iterable[str], where: str) -> tuple[Any, ...]:
    """Parses an expression that may use these names into a tree; error texts start with `where`.

    A tree is `("name", name)`, `("key", tree, key)`, `("slice", tree, ((start, stop, step), …))`,
    `("concatenate", trees)`, `("+", left, right)`, `("*", left, right)`, `("scaled", number, tree)`,
    `("shifted", number, tree)` or `("call", activation, tree)`.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ValueError(f"{where}: expected a text of at most {_LONGEST} characters, got {quoted(text)}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        return _read(tree, frozenset(names), where)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(
            f"{where}: expected an expression such as observations['image'], got {quoted(text)}."
        ) from error


def write(tree: tuple[Any, ...]) -> str:
    """Writes a tree as the text of an expression, from which `parse` returns the same tree."""
    match tree:
        case ("name", name):
            return name
        case ("key", inner, key):
            return f"{write(inner)}[{key!r}]"
        case ("slice", inner, slices):
            return f"{write(inner)}[{', '.join(_write_slice(entry) for entry in slices)}]"
        case ("concatenate", parts):
            return f"concatenate([{', '.join(write(part) for part in parts)}])"
        case ("scaled", number, inner):
            return f"({number!r} * {write(inner)})"
        case ("shifted", number, inner):
            return f"({number!r} + {write(inner)})"
        case ("call", name, inner):
            return f"{name}({write(inner)})"
        case (operator, left, right):
            return f"({write(left)} {operator} {write(right)})"
    raise ValueError(f"expression: expected a tree from parse, got {tree!r}.")


def _read(tree: ast.expr, names: frozenset[str], where: str) -> tuple[Any, ...]:
    match tree:
        case ast.Name(id=name) if name in names:
            return "name", name
        case ast.Name(id=name):
            choose(dict.fromkeys(names), name, where)
        case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as key)) if not isinstance(key, bool):
            return "key", _read(inner, names, where), key
        case ast.Subscript(value=inner, slice=ast.Slice() | ast.Tuple() as index):
            entries = index.elts if isinstance(index, ast.Tuple) else [index]
            return "slice", _read(inner, names, where), tuple(_slice(entry, where) for entry in entries)
        case ast.Call(func=ast.Name(id="concatenate"), args=[ast.List(elts=parts)], keywords=[]) if parts:
            return "concatenate", tuple(_read(part, names, where) for part in parts)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name != "concatenate":
            choose(ACTIVATIONS, name, where)
            return "call", name, _read(inner, names, where)
        case ast.BinOp(left=left, op=ast.Add() | ast.Mult() as op, right=right):
            operator, with_number = ("+", "shifted") if isinstance(op, ast.Add) else ("*", "scaled")
            for side, other in ((left, right), (right, left)):
                if (number := _number(side)) is not None:
                    return with_number, number, _read(other, names, where)
            return operator, _read(left, names, where), _read(right, names, where)
    raise ValueError(
        f"{where}: expected names, keys, slices a:b, concatenate([a, b]), +, *, 2 * a, 0.5 + a and activations as in "
        f"tanh(a), got {quoted(ast.unparse(tree))}."
    )


def _number(tree: ast.expr) -> float | None:
    match tree:
        case ast.UnaryOp(op=ast.USub(), operand=inner) if (number := _number(inner)) is not None:
            return -number
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and number <= _LARGEST:
            return float(number)
    return None


def _slice(entry: ast.expr, where: str) -> tuple[int | None, ...]:
    if isinstance(entry, ast.Slice):
        return tuple(_bound(part, where) for part in (entry.lower, entry.upper, entry.step))
    raise ValueError(
        f"{where}: expected a slice a:b, got {quoted(ast.unparse(entry))}. A single entry i is the slice i:i+1."
    )


def _bound(part: ast.expr | None, where: str) -> int | None:
    match part:
        case None:
            return None
        case ast.Constant(value=int() as value):
            return int(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -int(value)
    raise ValueError(f"{where}: expected an integer in a slice, got {quoted(ast.unparse(part))}.")


def _write_slice(entry: tuple[int | None, ...]) -> str:
    start, stop, step = ("" if bound is None else str(bound) for bound in entry)
    return f"{start}:{stop}:{step}" if step else f"{start}:{stop}"


def parse_output_activation(chosen: Activation, variable: str = "mean") -> tuple[Any, ...]:
    """Parses an activation of the head: a name, a function, an expression such as `2 * tanh(mean)`, or None.

    `variable` is the name in the expression: "mean" for `output_activation`, "std" for `std_activation`.
    """
    if chosen is None:
        return "name", variable
    if callable(chosen) or (str(chosen).isidentifier() and chosen != variable):
        activation(chosen)
        return "call", chosen, ("name", variable)
    field = "output_activation" if variable == "mean" else "std_activation"
    tree = inner = parse(chosen, (variable,), field)
    while inner[0] in ("scaled", "shifted", "call"):
        inner = inner[2]
    if inner[0] != "name":
        raise ValueError(f"{field}: expected numbers and activations as in 2 * tanh({variable}), got {quoted(chosen)}.")
    return tree


def apply_output_activation(tree: tuple[Any, ...], value: Any, activations: Mapping[str, Callable[[Any], Any]]) -> Any:
    """Applies a parsed activation of the head to the mean or to the numbers of the standard deviation."""
    match tree:
        case ("scaled", number, inner):
            return number * apply_output_activation(inner, value, activations)
        case ("shifted", number, inner):
            return number + apply_output_activation(inner, value, activations)
        case ("call", chosen, inner):
            function = chosen if callable(chosen) else activations[chosen]
            return function(apply_output_activation(inner, value, activations))
    return value

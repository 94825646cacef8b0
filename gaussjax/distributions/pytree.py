"""How a distribution becomes a pytree: its arrays are the leaves, its bounds are static."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def static() -> Any:
    """A field that is no leaf: hashable, and part of the tree's structure."""
    return dataclasses.field(metadata={"static": True})


def register(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose fields are pytree leaves, but for `static` ones.

    JAX rebuilds pytrees with placeholders in place of arrays, so the rebuilt object is filled
    field by field and `__init__`, which may convert its arguments, is not called.
    """
    cls = dataclasses.dataclass(frozen=True, init=False, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = tuple(field.name for field in fields if not field.metadata.get("static"))
    constants = tuple(field.name for field in fields if field.metadata.get("static"))

    def flatten_with_keys(value: T):
        keyed = tuple((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in leaves)
        return keyed, tuple(getattr(value, name) for name in constants)

    def flatten(value: T):
        return tuple(getattr(value, name) for name in leaves), tuple(getattr(value, name) for name in constants)

    def unflatten(aux, children) -> T:
        names = (*leaves, *constants)
        return fill(object.__new__(cls), **dict(zip(names, (*children, *aux), strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def fill(value: T, **fields: object) -> T:
    """Sets the fields of a frozen object that is being made, and returns it."""
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value

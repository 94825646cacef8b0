"""How a distribution becomes a pytree: its fields are the leaves, nothing else is kept."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import jax

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose fields are pytree leaves.

    JAX rebuilds pytrees with placeholders in place of arrays, so the rebuilt object is filled
    field by field and `__init__`, which may convert its arguments, is not called.
    """
    cls = dataclasses.dataclass(frozen=True, init=False, eq=False)(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))  # type: ignore[arg-type]

    def flatten_with_keys(value: T):
        return tuple((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in names), None

    def flatten(value: T):
        return tuple(getattr(value, name) for name in names), None

    def unflatten(_, leaves) -> T:
        return fill(object.__new__(cls), **dict(zip(names, leaves, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def fill(value: T, **fields: object) -> T:
    """Sets the fields of a frozen object that is being made, and returns it."""
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value

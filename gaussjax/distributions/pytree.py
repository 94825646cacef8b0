"""Distributions as frozen pytrees: arrays are leaves, bounds are static, the constructor broadcasts."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from gaussjax.core.arrays import xp

T = TypeVar("T")


def static() -> Any:
    """Field of a distribution that is no array: hashable, and part of the pytree's structure."""
    return dataclasses.field(metadata={"static": True})


def sized(size: Callable[[int], int]) -> Any:
    """Field of a distribution whose last axis has `size(act)` entries; without it the axis has `act`."""
    return dataclasses.field(metadata={"size": size})


@typing.dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, sized))
def register(cls: type[T]) -> type[T]:
    """Class decorator that makes a `Distribution` a frozen dataclass and a pytree.

    The annotated fields are the arguments of the constructor. They are the leaves of the pytree,
    except those declared with `static()`. JAX rebuilds the object without its constructor, so
    leaves may be placeholders.

    Args:
        cls: A subclass of `Distribution` with annotated fields, the first of them `loc`.

    Returns:
        The class with a constructor that broadcasts its leaves.

    Raises:
        ValueError: In the constructor, if a leaf does not broadcast to the shape of `loc`.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> one = gaussjax.distributions.DiagGaussian(jnp.zeros((4, 2)), jnp.zeros(2))
        >>> jax.tree.map(jnp.shape, one)
        DiagGaussian(loc=(4, 2), log_std=(4, 2))
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    sizes = {field.name: field.metadata.get("size") for field in fields if not field.metadata.get("static")}
    leaves, constants = tuple(sizes), tuple(field.name for field in fields if field.name not in sizes)
    cls._sizes = sizes  # type: ignore[attr-defined]

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
    """Sets fields of a frozen object that is being made, and returns it."""
    for name, field in fields.items():
        object.__setattr__(value, name, field)
    return value


def broadcast_leaves(value: Any) -> None:
    """Gives the leaves of an object that is being made one dtype and one batch shape.

    Raises:
        ValueError: A leaf does not broadcast to the shape of `loc`.
    """
    names = tuple(value._sizes)
    leaves = xp.at_least_float32(*(getattr(value, name) for name in names))
    shapes = {name: tuple(leaf.shape) for name, leaf in zip(names, leaves, strict=True)}
    if not shapes["loc"]:
        raise ValueError("loc: expected shape (..., act), got (). Give a single action the shape (1,).")
    act = shapes["loc"][-1]
    counts = {name: size(act) if size else act for name, size in value._sizes.items()}
    for name, shape in shapes.items():
        one_for_all = value._sizes[name] is None and shape in ((), (*shape[:-1], 1))
        if shape[-1:] != (counts[name],) and not one_for_all:
            raise ValueError(
                f"{name}: expected a last axis of {counts[name]} for {act} dimensions of loc, got shape {shape}. "
                f"Reshape it to (..., {counts[name]})."
            )
    try:
        batch = xp.broadcast_shapes(*(leaf.shape[:-1] for leaf in leaves))
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{type(value).__name__}: expected leading axes that broadcast to one batch shape, got {shapes}. "
            f"Give them one batch shape, with axes of 1 where an array is shared."
        ) from error
    fill(
        value, **{name: xp.broadcast_to(leaf, (*batch, counts[name])) for name, leaf in zip(names, leaves, strict=True)}
    )

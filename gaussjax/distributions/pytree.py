"""Class decorator that makes a distribution a frozen pytree whose constructor broadcasts its fields."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from gaussjax.core.arrays import fill

T = TypeVar("T")


def static() -> Any:
    """Declares a hashable field of a distribution that is part of the pytree's structure and no leaf.

    Returns:
        The value to assign to the annotated field in the class body.

    Example:
        >>> import jax.numpy as jnp
        >>> from gaussjax.distributions import DiagGaussian
        >>> @register
        ... class Scaled(DiagGaussian):
        ...     factor: float = static()
        >>> Scaled(jnp.zeros(2), jnp.zeros(2), factor=2.0).factor
        2.0
    """
    return dataclasses.field(metadata={"static": True})


def sized(size: Callable[[int], int]) -> Any:
    """Declares an array field of a distribution whose last axis has `size(act)` entries instead of `act`.

    Args:
        size: Function `(number of actions) -> number of entries`.

    Returns:
        The value to assign to the annotated field in the class body.

    Example:
        >>> import jax.numpy as jnp
        >>> from gaussjax.distributions import DiagGaussian
        >>> @register
        ... class Mixture(DiagGaussian):
        ...     weights: jax.Array = sized(lambda act: 2)
        >>> Mixture(jnp.zeros((4, 3)), jnp.zeros(3), jnp.zeros(2)).weights.shape
        (4, 2)
    """
    return dataclasses.field(metadata={"size": size})


@typing.dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, sized))
def register(cls: type[T]) -> type[T]:
    """Class decorator that makes a `Distribution` a frozen dataclass and a pytree.

    The annotated fields are the arguments of the constructor. All of them except those declared with
    `static()` are leaves of the pytree. JAX rebuilds the object without calling the constructor.

    Args:
        cls: A subclass of `Distribution` with annotated fields, the first of them `loc`.

    Returns:
        The class. Its constructor raises ValueError for a leaf that does not broadcast to `loc`.

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

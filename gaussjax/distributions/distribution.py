"""Base class of distributions over actions, and the decorator that makes a subclass a frozen pytree."""

from __future__ import annotations

import abc
import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gaussjax.core.arrays import as_array, broadcast_leaves, fill, is_other, xp
from gaussjax.core.compiled import refuse_traced
from gaussjax.core.text import quoted

T = TypeVar("T")
_REDUCTIONS = {"sum": xp.sum, "mean": xp.mean, "prod": xp.prod}


class Distribution(abc.ABC):
    """Base class of distributions over action vectors that compute their samples from standard normal noise.

    A distribution of your own is a subclass with the decorator `register`, the field `loc` and the
    four abstract methods: `from_noise`, `log_prob`, `entropy` and `mean`. Its constructor casts the
    fields to at least float32 and broadcasts them to the shape of `loc`. The other methods have
    defaults, or raise NotImplementedError.

    Attributes:
        loc: Location of the actions before any squashing, `(…, act)`.
        has_atoms: True in a subclass if single actions have a probability above 0, such as the bounds of a clipped
            Gaussian. A loss then has to use `entropy()`: the gradient of a sample's log-density would be biased.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from gaussjax.distributions import Distribution, align, reduce, register
        >>> @register
        ... class Laplace(Distribution):
        ...     loc: jax.Array
        ...     log_scale: jax.Array
        ...
        ...     def from_noise(self, noise):
        ...         loc, log_scale, noise = align(self.loc, self.log_scale, noise)
        ...         distance = -jax.scipy.special.log_ndtr(-jnp.abs(noise)) - jnp.log(2.0)
        ...         return loc + jnp.exp(log_scale) * jnp.sign(noise) * distance
        ...
        ...     def log_prob(self, actions, reduction="sum"):
        ...         loc, log_scale, actions = align(self.loc, self.log_scale, actions)
        ...         terms = -jnp.abs(actions - loc) * jnp.exp(-log_scale) - log_scale
        ...         return reduce(terms - jnp.log(2.0), reduction)
        ...
        ...     def entropy(self, reduction="sum"):
        ...         return reduce(self.log_scale + 1.0 + jnp.log(2.0), reduction)
        ...
        ...     def mean(self):
        ...         return self.loc
        >>> one = Laplace(jnp.zeros((4, 2)), log_scale=jnp.zeros(2))
        >>> actions, log_prob = jax.jit(Laplace.sample_and_log_prob)(one, jax.random.key(0))
        >>> actions.shape, log_prob.shape
        ((4, 2), (4,))
    """

    loc: Array
    has_atoms: ClassVar[bool] = False

    __post_init__ = broadcast_leaves

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the leading axes of `loc`; each entry of the batch has a distribution of its own."""
        return tuple(xp.shape(self.loc)[:-1])

    @property
    def event_shape(self) -> tuple[int]:
        """Shape of one action, `(act,)`."""
        return (xp.shape(self.loc)[-1],)

    def sample(self, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws actions of shape `(*sample_shape, …, act)` and consumes the key."""
        return self.sample_and_log_prob(key, sample_shape)[0]

    def sample_and_log_prob(
        self, key: Key[Array, ""], sample_shape: tuple[int, ...] = (), reduction: str = "sum"
    ) -> tuple[Array, Array]:
        """Draws actions and computes their log-density from the noise, unaffected by rounding of the actions.

        Args:
            key: PRNG key, which is consumed.
            sample_shape: Leading axes to add; each of their entries is an independent draw.
            reduction: Reduction over the action axis, as in `log_prob`.

        Returns:
            Actions of shape `(*sample_shape, …, act)`, and their log-density in nats.
        """
        noise = xp.standard_normal(key, (*sample_shape, *self.loc.shape), self.loc.dtype)
        return self.from_noise(noise), self.noise_log_prob(noise, reduction)

    @abc.abstractmethod
    def from_noise(self, noise: Float[Array, "*batch act"]) -> Array:
        """Maps standard normal noise to actions, `(…, act)`; the noise may have more leading axes than `loc`."""

    def noise_log_prob(self, noise: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density in nats of the actions `from_noise(noise)`, with a reduction as in `log_prob`."""
        return self.log_prob(self.from_noise(noise), reduction)

    @abc.abstractmethod
    def log_prob(self, actions: Float[Array, "*batch act"], reduction: str = "sum") -> Array:
        """Log-density of actions in nats, of shape `(…)`, or `(…, act)` for the reduction "none".

        Args:
            actions: Actions of shape `(…, act)`, which may have more leading axes than `loc`.
            reduction: "sum" (the joint density), "mean", "prod" or "none".
        """

    @abc.abstractmethod
    def entropy(self, reduction: str = "sum") -> Array:
        """Differential entropy in nats, of shape `(…)`, or `(…, act)` for the reduction "none"."""

    @abc.abstractmethod
    def mean(self) -> Array:
        """Expected action, of shape `(…, act)`."""

    def kl_divergence(self, other: Any, reduction: str = "sum") -> Array:
        """KL(self || other) in nats, of shape `(…)`, or `(…, act)` for the reduction "none".

        Raises:
            TypeError: `other` is of another class.
            NotImplementedError: The class defines no divergence.
        """
        self._refuse("kl_divergence")

    def median(self) -> Array:
        """Median of each dimension of the action, of shape `(…, act)`."""
        self._refuse("median")

    def mode(self) -> Array:
        """Most likely action, of shape `(…, act)`."""
        self._refuse("mode")

    def stddev(self) -> Array:
        """Standard deviation of each dimension in units of the action, of shape `(…, act)`."""
        self._refuse("stddev")

    def as_distrax(self) -> Any:
        """Converts this distribution to a `distrax.Distribution`.

        Raises:
            ImportError: distrax cannot be imported.

        Example:
            >>> import jax.numpy as jnp, gaussjax
            >>> ours = gaussjax.distributions.DiagGaussian(jnp.zeros((4, 2)), jnp.zeros(2))
            >>> ours.as_distrax().batch_shape  # doctest: +SKIP
            (4,)
        """
        from gaussjax.distributions.bridge import distrax_class

        return distrax_class()(self)

    def _refuse(self, method: str) -> NoReturn:
        name = type(self).__name__
        raise NotImplementedError(
            f"{method}: expected a class that defines it, got {name}. Define {name}.{method}, or estimate it from "
            f"samples and log_prob."
        )


def same_class(one: Distribution, other: Any) -> None:
    """Raises TypeError if two distributions are of different classes, and ValueError if their dimensions differ."""
    if type(one) is not type(other):
        raise TypeError(
            f"other: expected a {type(one).__name__}, got {type(other).__name__}. "
            f"The divergence between two classes has no closed form; estimate it from samples and log_prob."
        )
    if one.event_shape != other.event_shape:
        raise ValueError(f"other: expected actions of {one.event_shape[0]} dimensions, got {other.event_shape[0]}.")


def same_box(one: Any, other: Any, repair: str) -> None:
    """Raises ValueError if two distributions of one class have different bounds."""
    if (one.low, one.high) != (other.low, other.high):
        raise ValueError(
            f"other: expected the Box {one.low} to {one.high}, got {other.low} to {other.high}. The divergence is "
            f"infinite or has no closed form; {repair}."
        )


def as_floats(actions: Any) -> Array:
    """Returns actions as an array, with their own dtype if it is floating."""
    actions = as_array(actions, "actions")
    (floats,) = xp.at_least_float32(actions)
    return xp.asarray(actions) if xp.is_floating(actions) else floats


def as_bounds(low: Any, high: Any, num_actions: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Converts the bounds of a Box to tuples of Python floats; raises an error for arrays that are traced or ragged."""
    # A policy gives tuples, because torch.compile cannot trace `tolist`.
    if isinstance(low, tuple) and isinstance(high, tuple) and len(low) == len(high) == num_actions:
        return low, high
    refuse_traced((low, high), "low, high", "Box")
    try:
        sides = [np.broadcast_to(np.asarray(side, np.float64), (num_actions,)).tolist() for side in (low, high)]
    except ValueError as error:
        raise ValueError(
            f"low, high: expected numbers for {num_actions} dimensions, got {quoted(low)} and {quoted(high)}. Pass one "
            f"number, or one for each dimension."
        ) from error
    return tuple(sides[0]), tuple(sides[1])


def check_reduction(reduction: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduction not in (*_REDUCTIONS, "none"):
        raise ValueError(f"reduction: expected 'sum', 'mean', 'prod' or 'none', got {reduction!r}.")


def reduce(terms: Float[Array, "*batch act"], reduction: str) -> Array:
    """Reduces an array with one term for each action dimension over its last axis.

    Args:
        terms: One term for each dimension, such as a log-density in nats, `(…, act)`.
        reduction: "sum" (the joint log-density of independent dimensions), "none", or for compatibility
            "mean" and "prod"; "prod" multiplies log-densities.

    Returns:
        Array of shape `(…)`; for "none" the terms themselves, `(…, act)`.

    Raises:
        ValueError: No reduction has that name.

    Example:
        >>> import jax.numpy as jnp
        >>> reduce(jnp.ones((4, 2)), "sum").shape
        (4,)
    """
    check_reduction(reduction)
    if reduction == "sum":
        return row_sums(terms)
    return terms if reduction == "none" else _REDUCTIONS[reduction](terms, axis=-1)


def row_sums(terms: Float[Array, "*batch act"]) -> Array:
    """Adds up the last axis, of up to 32 columns column by column.

    XLA joins additions of columns with the operations before them, and no sum of rows: with it the gradient of
    `evaluate` takes 1.16 times as long at 8192 rows (CPU, jax 0.10.2).
    """
    plain = is_other(terms) or not 0 < terms.shape[-1] <= 32
    return xp.sum(terms, axis=-1) if plain else _sum_of_columns(terms)


@jax.custom_jvp
def _sum_of_columns(array: Array) -> Array:
    # In pairs: rounding errors grow with the logarithm of the number of columns.
    columns = [jax.lax.index_in_dim(array, i, -1, keepdims=False) for i in range(array.shape[-1])]
    while len(columns) > 1:
        columns = [functools.reduce(operator.add, columns[i : i + 2]) for i in range(0, len(columns), 2)]
    return columns[0]


# The gradient is one broadcast, and not an array of zeros for each column.
_sum_of_columns.defjvp(lambda primals, tangents: (_sum_of_columns(*primals), jnp.sum(tangents[0], -1)))


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


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, sized))
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

    def flatten(value: T):
        return tuple(getattr(value, name) for name in leaves), tuple(getattr(value, name) for name in constants)

    def flatten_with_keys(value: T):
        children, aux = flatten(value)
        return tuple(zip(map(jax.tree_util.GetAttrKey, leaves), children, strict=True)), aux

    def unflatten(aux, children) -> T:
        names = (*leaves, *constants)
        return fill(object.__new__(cls), **dict(zip(names, (*children, *aux), strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls

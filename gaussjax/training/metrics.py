"""What a compiled step tells of itself: many named numbers as two arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


@partial(jax.tree_util.register_dataclass, data_fields=["counts", "measures"], meta_fields=["counted", "measured"])
@dataclasses.dataclass(frozen=True, eq=False)
class Metrics(Mapping[str, Array]):
    """A mapping from names to numbers that is a pytree of two arrays.

    A `dict` would be an output for each number: each is compiled, and copied from the device, by itself.
    Under `jax.vmap` and `jax.lax.scan` every number gets the leading axes, as in a `dict`.

    Attributes:
        counts: The integers, `(..., counted)`.
        measures: All others, `(..., measured)`.
        counted: Names of the integers.
        measured: Names of the others.

    Example:
        >>> metrics = Metrics.of({"step": jnp.asarray(64), "entropy": jnp.asarray(1.5)})
        >>> int(metrics["step"]), dict(jax.device_get(metrics))["entropy"].item()
        (64, 1.5)
        >>> jax.vmap(lambda offset: jax.tree.map(lambda leaf: leaf + offset, metrics))(jnp.arange(3))["step"].shape
        (3,)
    """

    counts: Array
    measures: Array
    counted: tuple[str, ...]
    measured: tuple[str, ...]

    @classmethod
    def of(cls, named: Mapping[str, Any]) -> Metrics:
        """Lays scalars side by side.

        Args:
            named: Scalars, some of them integers and some not.

        Returns:
            The same numbers; those that are not integers have one type, the widest among them.
        """
        counted = tuple(name for name, value in named.items() if jnp.issubdtype(jnp.result_type(value), jnp.integer))
        measured = tuple(name for name in named if name not in counted)
        counts, measures = (jnp.array([named[name] for name in names]) for names in (counted, measured))
        return cls(counts, measures, counted, measured)

    def __getitem__(self, name: str) -> Array:
        for names, values in ((self.counted, self.counts), (self.measured, self.measures)):
            if name in names:
                return values[..., names.index(name)]
        raise KeyError(f"metrics: expected one of {', '.join(self)}, got {name!r}.")

    def __iter__(self) -> Iterator[str]:
        return iter((*self.counted, *self.measured))

    def __len__(self) -> int:
        return len(self.counted) + len(self.measured)

"""Networks written with `flax.nnx`, wrapped as pure functions for a policy."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from flax import nnx


@dataclasses.dataclass(frozen=True)
class NNXNetwork:
    """The network that `from_nnx` returns; `make` is a function that builds the module from `nnx.Rngs`."""

    make: Callable[..., nnx.Module]

    def init(self, key: jax.Array, *_: Any) -> dict[str, Any]:
        """Returns the module's initial parameters as nested dicts."""
        from flax import nnx  # Imported here because importing nnx takes a quarter of a second.

        return _parts(self._made(nnx.Rngs(key)))[1]

    def apply(self, params: Any, *inputs: Any) -> Any:
        """Calls the module with these parameters."""
        from flax import nnx

        definition, _, state = _parts(self._abstract())
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state)(*inputs)

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """Returns the result of the module's method `initial_carry`, or `()` if it has no such method."""
        module: Any = self._abstract()
        return module.initial_carry(batch_shape) if hasattr(module, "initial_carry") else ()

    def _abstract(self) -> nnx.Module:
        from flax import nnx

        return nnx.eval_shape(lambda: self._made(nnx.Rngs(0)))

    def _made(self, rngs: nnx.Rngs) -> nnx.Module:
        # An NNX class has its metaclass's signature, so __init__ is inspected. Flax's modules take rngs by keyword.
        function = self.make.__init__ if isinstance(self.make, type) else self.make
        parameter = inspect.signature(function).parameters.get("rngs")
        by_keyword = parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        return self.make(rngs=rngs) if by_keyword else self.make(rngs)


def from_nnx(make: Callable[..., nnx.Module]) -> NNXNetwork:
    """Wraps a `flax.nnx` module as a network for a policy's factory.

    Args:
        make: A function that builds the module from `nnx.Rngs`, such as the module's class. The policy calls the
            module with observations, and with carry and resets if the module has a method `initial_carry`. The
            module returns `(mean, log_std, dict)`, and all its variables are `nnx.Param`.

    Returns:
        A network with `init` and `apply`; each call of `init` builds a new module from its key.

    Raises:
        TypeError: `make` is a module instead of a function.
        ValueError: The module has variables that a pure policy cannot store, such as running statistics (at `init`).

    Example:
        >>> import jax.numpy as jnp, gaussjax
        >>> from flax import nnx
        >>> class Linear(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.mean = nnx.Linear(3, 2, rngs=rngs)
        ...         self.log_std = nnx.Param(jnp.zeros(2))
        ...     def __call__(self, observations):
        ...         return self.mean(observations), self.log_std[...], {}
        >>> policy = gaussjax.gaussian(from_nnx(Linear), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> sorted(policy.init(jax.random.key(0)))
        ['log_std', 'mean']
    """
    from flax import nnx

    if isinstance(make, nnx.Module):
        raise TypeError(
            f"make: expected a function of nnx.Rngs, got a module of {type(make).__name__}. Pass the class itself, or "
            f"lambda rngs: {type(make).__name__}(…, rngs=rngs)."
        )
    return NNXNetwork(make)


def _parts(module: nnx.Module) -> tuple[Any, dict[str, Any], Any]:
    from flax import nnx

    definition, state, rest = nnx.split(module, nnx.Param, ...)
    variables = jax.tree.leaves(rest, is_leaf=lambda value: isinstance(value, nnx.Variable))
    others = sorted({type(variable).__name__ for variable in variables})
    if others:
        raise ValueError(
            f"network: expected nnx.Param only, got variables of the types {others}. A policy's functions are pure: "
            f"leave out dropout and batch statistics, or use nnx.LayerNorm."
        )
    return definition, nnx.to_pure_dict(state), state

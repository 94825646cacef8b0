"""Networks written with `flax.nnx` as pairs of pure functions."""

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
    """The network that `from_nnx` returns.

    Attributes:
        make: `(rngs) -> module`.
    """

    make: Callable[..., nnx.Module]

    def init(self, key: jax.Array, *inputs: Any) -> dict[str, Any]:
        """The module's parameters as nested dicts."""
        from flax import nnx  # Loaded here because the import takes a quarter of a second.

        del inputs
        return _parts(self._made(nnx.Rngs(key)))[1]

    def apply(self, params: Any, *inputs: Any) -> Any:
        """The module's result with those parameters."""
        from flax import nnx

        module = self._abstract()
        definition, _, state = _parts(module)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(definition, state)(*inputs)

    def initial_carry(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """The module's own `initial_carry`, or `()` without one."""
        module: Any = self._abstract()
        return module.initial_carry(batch_shape) if hasattr(module, "initial_carry") else ()

    def _abstract(self) -> nnx.Module:
        from flax import nnx

        return nnx.eval_shape(lambda: self._made(nnx.Rngs(0)))

    def _made(self, rngs: nnx.Rngs) -> nnx.Module:
        # Flax's own modules take rngs as a keyword only.
        return self.make(rngs=rngs) if _by_name(self.make) else self.make(rngs)


def from_nnx(make: Callable[..., nnx.Module]) -> NNXNetwork:
    """A `flax.nnx` module as a network for a policy's factory.

    Args:
        make: A function that makes the module from `nnx.Rngs`, such as the class itself. The module is
            called with observations (and carry and resets, if it has a method `initial_carry`) and
            returns `(mean, log_std, dict)`. All of its variables are `nnx.Param`.

    Returns:
        An object with `init` and `apply`. Each `init` makes the module anew with its own key.

    Raises:
        TypeError: It is a module that is made already.
        ValueError: At `init`: the module has variables besides its parameters, such as running
            statistics or the random state of dropout, which a pure policy cannot keep.

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


def _by_name(make: Callable[..., nnx.Module]) -> bool:
    # The signature of an NNX class is that of its metaclass.
    written = make.__init__ if isinstance(make, type) else make
    found = inspect.signature(written).parameters.get("rngs")
    return found is not None and found.kind is inspect.Parameter.KEYWORD_ONLY


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

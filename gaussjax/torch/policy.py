"""Policies whose network is a torch module and whose parameters are a dict of tensors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from gaussjax import networks, spaces
from gaussjax import policy as policies
from gaussjax.core.compiled import checked, unsorted_keys
from gaussjax.networks.description import bind
from gaussjax.policy import Backend, Kind, Policy, Spec, checks
from gaussjax.torch import initial, random
from gaussjax.torch.arrays import tensor
from gaussjax.torch.networks import full, make_on_meta


class Module:
    """A torch module with the methods `init` and `apply` of a Flax module."""

    def __init__(self, network: Any, observation_space: spaces.Space, num_actions: int, fields: Any):
        self.built_in = not isinstance(network, nn.Module)
        self.module = make_on_meta(bind(network, observation_space, num_actions, fields)) if self.built_in else network
        if hasattr(self.module, "initial_carry"):
            self.initial_carry = self.module.initial_carry

    def init(self, key: torch.Tensor, *_: Any) -> dict[str, torch.Tensor]:
        """Draws parameters with the key; for a user's own module, copies the parameters of the module."""
        if self.built_in:
            return initial.parameters(self.module, key)
        return {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()}

    def apply(self, params: Mapping[str, torch.Tensor], *arguments: Any) -> Any:
        """Calls the module with these parameters."""
        if isinstance(params, Held):
            return params.module(*arguments)
        if self.built_in:
            return functional_call(self.module, dict(params), arguments)
        # Buffers such as running means are copied, because a policy must not change its module.
        values = {**params, **{name: buffer.clone() for name, buffer in self.module.named_buffers()}}
        if torch.compiler.is_compiling():
            return functional_call(self.module, values, arguments)
        try:
            return functional_call(self.module, values, arguments)
        except RuntimeError as error:
            types = {leaf.dtype for leaf in params.values()}
            seen = {leaf.dtype for leaf in jax.tree.leaves(arguments[0]) if leaf.is_floating_point()}
            if "type" not in str(error) or len(types) != 1 or seen <= types:
                raise
            (wanted,), got = types, min(map(str, seen - types))
            raise TypeError(
                f"observations: expected {wanted}, the type of the parameters, got {got}. Convert one of them."
            ) from error


class Held(NamedTuple):
    """A module that has its own parameters, in place of a dict of them; an optimizer may change them in place."""

    module: nn.Module


class _InTorch(NamedTuple):
    """A network together with the backend that a policy's factory uses."""

    network: Any
    backend: Backend


def _arrays(tree: Any, convert: Callable[[Any, str], Any], where: str) -> Any:
    """Converts the leaves of a tree; lists are nodes of it, as in JAX, and `xp.asarray` joins their tensors."""
    if isinstance(tree, Mapping):
        if len(set(map(type, tree))) > 1:
            raise unsorted_keys(where)
        return {name: _arrays(part, convert, f"{where}[{name!r}]") for name, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        fields = getattr(tree, "_fields", None)
        places = [f"[{i}]" for i in range(len(tree))] if fields is None else [f".{field}" for field in fields]
        parts = [_arrays(part, convert, where + place) for part, place in zip(tree, places, strict=True)]
        return type(tree)(parts) if fields is None else type(tree)(*parts)
    return convert(tree, where)


def _converting(function: Callable[..., Any], static: tuple[str, ...]) -> Callable[..., Any]:
    """Wraps a function so that its arguments are converted to tensors, except parameters and key.

    float64 numbers of NumPy and Python become float32 unless a parameter is float64, as in JAX.
    """
    names, kept = list(inspect.signature(function).parameters), ("params", "key", *static)

    @functools.wraps(function)
    def converted(*arguments: Any, **options: Any) -> Any:
        params = arguments[0] if arguments else options.get("params")
        leaves = params.values() if isinstance(params, Mapping) else ()
        wide = any(getattr(leaf, "dtype", None) == torch.float64 for leaf in leaves)

        def convert(value: Any, name: str, where: str) -> Any:
            if not isinstance(value, (torch.Tensor, type(None))):
                value = checked(value, where, name)
            if isinstance(value, (np.ndarray, np.generic, float)) and np.asarray(value).dtype == np.float64:
                return torch.from_numpy(np.array(value)).to(torch.float64 if wide else torch.float32)
            return tensor(value)

        def argument(name: str, value: Any) -> Any:
            return value if name in kept else _arrays(value, lambda leaf, where: convert(leaf, name, where), name)

        positional = [argument(name, value) for name, value in zip(names, arguments, strict=False)]
        options = {name: argument(name, value) for name, value in options.items()}
        return function(*positional, *arguments[len(names) :], **options)

    return converted


def _check_params(params: Any, expected: Callable[[], Any]) -> None:
    # torch.compile cannot trace JAX's pytree functions, so a compiled call does not check the parameters.
    if torch.compiler.is_compiling() or isinstance(params, Held):
        return
    wrong = [] if isinstance(params, Mapping) else [type(params).__name__]
    if not wrong:
        wrong = [
            f"{type(leaf).__name__} for {name!r}"
            for name, leaf in params.items()
            if not (torch.is_tensor(leaf) and isinstance(name, str))
        ]
    if wrong:
        raise TypeError(
            f"params: expected a dict of tensors, got {wrong[0]}. Make it with policy.init(key), with "
            f"dict(module.named_parameters()) for a module of yours, or with gaussjax.torch.to_torch from JAX's."
        )
    checks.params(params, expected)


TORCH = Backend(
    bind=Module,
    compile=_converting,
    full=full,
    draw=lambda key, shape, dtype: random.normal(key, tuple(shape), dtype),
    float32=torch.float32,
    check_key=functools.partial(random.WORDS.check, note=checks.KEY_IS_SECOND),
    check_params=_check_params,
    abstract=lambda function, *arguments: function(*arguments),
    key=lambda: random.key(0),
)


def _twin(factory: Callable[..., Policy]) -> Callable[..., Policy]:
    """Returns the factory of torch policies that corresponds to a factory of JAX policies."""

    @functools.wraps(factory)
    def make_policy(network: Any, observation_space: Any, action_space: Any, **options: Any) -> Policy:
        policy = factory(_InTorch(network, TORCH), observation_space, action_space, **options)
        return policy._replace(kind=policy.kind._replace(factory=make_policy))

    # Pickle finds a factory by its module and name. The docstring's example is left out, because it uses JAX.
    make_policy.__module__ = __name__
    make_policy.__doc__ = (factory.__doc__ or "").partition("    Example:")[0]
    return make_policy


gaussian = _twin(policies.gaussian)
squashed_gaussian = _twin(policies.squashed_gaussian)
multivariate_gaussian = _twin(policies.multivariate_gaussian)
truncated_gaussian = _twin(policies.truncated_gaussian)
_TWINS = {twin.__name__: twin for twin in (gaussian, squashed_gaussian, multivariate_gaussian, truncated_gaussian)}


class _Own(NamedTuple):
    """Factory of torch policies of a user's kind; a record, because records compare and pickle by value."""

    kind: Kind

    def __call__(self, network: Any, observation_space: Any, action_space: Any, **options: Any) -> Policy:
        return policies.build(
            self.kind._replace(factory=self), _InTorch(network, TORCH), observation_space, action_space, **options
        )


def own_kind(policy: Policy) -> Kind | None:
    """Returns the kind of a policy that a user defined, or None for a kind of gaussjax."""
    return None if policy.spec.kind in _TWINS else policy.kind._replace(factory=None)


def from_spec(spec: Spec | Mapping[str, Any], network: nn.Module | None = None, kind: Kind | None = None) -> Policy:
    """Builds the torch policy of a spec, which may be the spec of a JAX policy.

    Args:
        spec: A `policy.spec`, or the dict returned by `policy.spec.to_dict()`.
        network: Your own torch module, if the spec's network is not part of gaussjax.
        kind: Your own kind, if the spec names a kind that is not part of gaussjax. Its functions get tensors.

    Returns:
        A policy whose parameters are a dict of tensors.

    Raises:
        ValueError: A name in the description is unknown, or the network or the kind is missing.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> twin = from_spec(policy.spec)
        >>> twin.act(twin.init(random.key(0)), random.key(1), torch.zeros(5, 3)).actions.shape
        torch.Size([5, 2])
    """
    given: Any = network
    if isinstance(spec, Spec):
        given = spec.network if network is None else network
    elif network is None and "network" in spec:
        given = networks.from_spec(spec["network"])
    policy = policies.from_spec(spec, _InTorch(given, TORCH), kind)
    factory = _TWINS[policy.spec.kind] if kind is None else _Own(kind)
    return policy._replace(kind=policy.kind._replace(factory=factory))

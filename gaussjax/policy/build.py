"""The functions of a policy, around a network and a distribution."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.networks.description import hashable
from gaussjax.policy import checks
from gaussjax.policy.backend import JAX, Backend
from gaussjax.policy.policy import ActOutput, EvaluateOutput, Params, Policy, Spec
from gaussjax.random import keys

if TYPE_CHECKING:
    from jaxtyping import Array


class Kind(NamedTuple):
    """How one family of policies uses its distribution.

    Attributes:
        transform: `(mean, log_std) -> (mean, log_std)`, the clips before the distribution.
        distribution: `(mean, log_std, outputs) -> distribution`.
        act: `(distribution, noise or None, reduction) -> (raw_actions, actions, log_prob)`; None is
            the deterministic action.
        log_prob: `(distribution, actions, raw_actions or None, reduction) -> log_prob`.
        needs: Names of the network's fields to switch on where they are None, and of the outputs that come of it.
    """

    transform: Callable[..., Any]
    distribution: Callable[..., Any]
    act: Callable[..., Any]
    log_prob: Callable[..., Any]
    needs: tuple[str, ...] = ()


def build(spec: Spec, kind: Kind, reduction: str, keepdims: bool) -> Policy:
    """The functions of a policy, around a network and a kind of distribution.

    A network of another library than JAX comes in an object with the attributes `network` and `backend`.
    """
    backend: Backend = getattr(spec.network, "backend", JAX)
    given = spec.network if backend is JAX else spec.network.network
    if backend is JAX:
        _check_network(given)
    spec = dataclasses.replace(spec, network=hashable(given))
    num_actions = spaces.size(spec.action_space)
    network = backend.bind(spec.network, spec.observation_space, num_actions, [(name, True) for name in kind.needs])

    def initial_carry(batch_shape: tuple[int, ...] = ()) -> Any:
        return network.initial_carry(batch_shape) if hasattr(network, "initial_carry") else ()

    recurrent = bool(jax.tree.leaves(backend.abstract(initial_carry)))

    def init(key: Array, observations: Any = None) -> Params:
        backend.check_key(key)
        if observations is None:
            observations = spaces.zeros(spec.observation_space, (1,), backend.full)
        observations = backend.arrays(observations)
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        key = keys.written_out(key)
        if recurrent:
            return network.init(key, observations, initial_carry(batch_shape), None)
        return network.init(key, observations)

    def shaped(reduced: Array) -> Array:
        return xp.expand_dims(reduced, -1) if keepdims and reduction != "none" else reduced

    @functools.cache
    def expected_params() -> Any:
        # The compiled one: what it was traced for, here or by a call, is not traced again.
        return backend.abstract(compiled[0], backend.key())

    def forward(params: Params, observations: Any, carry: Any, resets: Any) -> tuple[Any, dict[str, Any], Any]:
        observations, carry, resets = backend.arrays((observations, carry, resets))
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        backend.check_params(params, expected_params)
        if recurrent:
            resets = checks.memory(carry, resets, functools.partial(backend.abstract, initial_carry), batch_shape)
            returned = network.apply(params, observations, carry, resets)
        else:
            _refuse_memory(carry, resets)
            returned = network.apply(params, observations)
        mean, log_std, extras = checks.mean_and_log_std(returned, batch_shape, num_actions)
        mean, log_std = kind.transform(mean, log_std)
        distribution = kind.distribution(mean, log_std, extras)
        # With the batch shape of the mean, so that the arrays still fit together after a vmap.
        shared = {"log_std": log_std, **{name: extras[name] for name in kind.needs}}
        for name, array in shared.items():
            shared[name] = xp.broadcast_to(array, (*mean.shape[:-1], array.shape[-1]))
        return distribution, {**extras, "mean_actions": mean, **shared}, mean

    def distribution_of(outputs: dict[str, Any]) -> Any:
        return kind.distribution(outputs["mean_actions"], outputs["log_std"], outputs)

    def apply(params: Params, observations: Any, *, carry: Any = None, resets: Any = None) -> Any:
        outputs = forward(params, observations, carry, resets)[1]
        return distribution_of(outputs), outputs

    def act(
        params: Params,
        key: Any,
        observations: Any,
        *,
        taken_actions: Any = None,
        carry: Any = None,
        resets: Any = None,
        deterministic: bool = False,
        noise: Any = None,
    ) -> ActOutput:
        distribution, outputs, mean = forward(params, observations, carry, resets)
        needs_no_key = deterministic or noise is not None
        if not (needs_no_key and key is None):
            backend.check_key(key)
        if deterministic and noise is not None:
            raise ValueError(
                "noise: expected None for a deterministic action, which has none, got an array. "
                "Leave noise out, or set deterministic=False."
            )
        if noise is not None:
            noise = xp.astype(checks.same_shape(backend.arrays(noise), mean.shape, "noise"), mean.dtype)
        elif not deterministic:
            noise = backend.draw(key, mean.shape, mean.dtype)
        raw_actions, actions, log_prob = kind.act(distribution, noise, reduction)
        if taken_actions is not None:
            taken_actions = checks.same_shape(backend.arrays(taken_actions), mean.shape, "taken_actions")
            log_prob = kind.log_prob(distribution, taken_actions, None, reduction)
        return ActOutput(actions, shaped(log_prob), {**outputs, "raw_actions": raw_actions})

    def evaluate(
        params: Params,
        observations: Any,
        taken_actions: Any,
        *,
        raw_actions: Any = None,
        carry: Any = None,
        resets: Any = None,
    ) -> EvaluateOutput:
        distribution, outputs, mean = forward(params, observations, carry, resets)
        taken_actions = checks.same_shape(backend.arrays(taken_actions), mean.shape, "taken_actions")
        if raw_actions is not None:
            raw_actions = checks.same_shape(backend.arrays(raw_actions), mean.shape, "raw_actions")
        log_prob = kind.log_prob(distribution, taken_actions, raw_actions, reduction)
        return EvaluateOutput(shaped(log_prob), shaped(distribution.entropy(reduction)), outputs)

    def entropy(params: Params, observations: Any, *, carry: Any = None, resets: Any = None) -> Array:
        distribution, _, mean = forward(params, observations, carry, resets)
        return xp.broadcast_to(distribution.entropy("none"), mean.shape)

    def log_std(params: Params, observations: Any, *, carry: Any = None, resets: Any = None) -> Array:
        return forward(params, observations, carry, resets)[1]["log_std"]

    functions = (init, apply, act, evaluate, entropy, log_std)
    for function in (*functions, initial_carry):
        # Python's errors of arguments name a function by this.
        function.__qualname__ = f"policy.{function.__name__}"
    compiled = [
        backend.compile(function, ("deterministic",) if function is act else (), spec) for function in functions
    ]
    return Policy(*compiled, distribution=distribution_of, initial_carry=initial_carry, spec=spec)


def _check_network(network: Any) -> None:
    if isinstance(network, type):
        raise TypeError(
            f"network: expected a module, got the class {network.__name__}. Make one of it: {network.__name__}(…)."
        )
    if not (hasattr(network, "init") and hasattr(network, "apply")):
        raise TypeError(
            f"network: expected a flax.linen module, got {type(network).__name__}. A description and a flax.nnx module "
            f"become one by gaussjax.networks.from_spec and from_nnx; a torch.nn.Module belongs to gaussjax.torch."
        )


def _refuse_memory(carry: Any, resets: Any) -> None:
    if (carry is not None and jax.tree.leaves(carry)) or resets is not None:
        name, came = ("carry", carry) if resets is None else ("resets", resets)
        shapes = [tuple(xp.shape(leaf)) for leaf in jax.tree.leaves(came)]
        raise ValueError(
            f"{name}: expected None, got arrays of shapes {shapes}: this network has no memory. Leave the argument out."
        )

"""The policy: a network and a distribution as a record of pure functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from gaussjax import checks, spaces, strictness
from gaussjax.arrays import xp
from gaussjax.networks.spec import bind, hashable, to_dict
from gaussjax.noise import standard_normal

if TYPE_CHECKING:
    from jaxtyping import Array, Float

Params = Any
"""The pytree that the network's `init` gives."""


class ActOutput(NamedTuple):
    """What `act` returns.

    Attributes:
        actions: For the environment, `(…, act)`.
        log_prob: Log-density in nats, `(…, 1)`; see `reduction` and `keepdims` of the factory.
        outputs: `mean_actions`, `log_std` and `raw_actions` (before clip or squash), each
            `(…, act)`, then `carry` for a recurrent network and what the network adds.
    """

    actions: Float[Array, "*batch act"]
    log_prob: Float[Array, "..."]
    outputs: dict[str, Any]


class EvaluateOutput(NamedTuple):
    """What `evaluate` returns.

    Attributes:
        log_prob: Log-density of the actions given, in nats.
        entropy: In nats, reduced as `log_prob` is.
        outputs: As of `act`, without `raw_actions`: nothing was sampled.
    """

    log_prob: Float[Array, "..."]
    entropy: Float[Array, "..."]
    outputs: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Spec:
    """All that a policy was made from; `gaussjax.from_spec` makes it again.

    Attributes:
        kind: Name of the factory.
        network: The network as it was given.
        observation_space: Described by `gaussjax.spaces`.
        action_space: Likewise, a Box.
        options: The factory's options as pairs of name and value.
    """

    kind: str
    network: Any
    observation_space: spaces.Space
    action_space: spaces.Box
    options: tuple[tuple[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {
            "kind": self.kind,
            "network": to_dict(self.network),
            "observation_space": spaces.to_dict(self.observation_space),
            "action_space": spaces.to_dict(self.action_space),
            "options": {name: _plain(value) for name, value in self.options},
        }


class Policy(NamedTuple):
    """Pure functions of one policy, compiled, to be called bare or inside jit, vmap and scan.

    Observations have any leading dimensions, and all results have the same. Errors are raised
    while a call is traced, so they cost nothing afterwards and read the same under `jit`.

    Attributes:
        init: `(key, observations=None) -> params`. The key is consumed.
        apply: `(params, observations, *, carry=None, resets=None) -> (distribution, outputs)`.
        act: `(params, key, observations, *, taken_actions=None, carry=None, resets=None,
            deterministic=False, noise=None) -> ActOutput`. The key is consumed; `noise`, standard
            normal and of the shape of the actions, takes the place of the draw, and then, as
            when `deterministic`, the key may be None.
        evaluate: `(params, observations, taken_actions, *, raw_actions=None, carry=None,
            resets=None) -> EvaluateOutput`: one forward pass, nothing sampled. `raw_actions`,
            from the outputs of `act`, are read where the log-density is theirs: of squashed
            actions, and of clipped ones with `clipped_log_prob="unclipped"`.
        entropy: `(params, observations, *, carry=None, resets=None)`: nats a dimension, `(…, act)`.
        log_std: The same arguments: the log standard deviation after the clip, `(…, act)`.
        initial_carry: `(batch_shape=()) -> carry`: zeros, or `()` for a network without memory.
        spec: What the policy was made from, hashable.
    """

    init: Callable[..., Params]
    apply: Callable[..., tuple[Any, dict[str, Any]]]
    act: Callable[..., ActOutput]
    evaluate: Callable[..., EvaluateOutput]
    entropy: Callable[..., Array]
    log_std: Callable[..., Array]
    initial_carry: Callable[..., Any]
    spec: Spec


class Kind(NamedTuple):
    """How one family of policies uses its distribution.

    Attributes:
        transform: `(mean, log_std) -> (mean, log_std)`, the clips before the distribution.
        distribution: `(mean, log_std, outputs) -> distribution`.
        act: `(distribution, noise or None, reduction) -> (raw_actions, actions, log_prob)`; None is
            the deterministic action.
        log_prob: `(distribution, actions, raw_actions or None, reduction) -> log_prob`.
        needs: Names of the network's fields to switch on where they are None.
    """

    transform: Callable[..., Any]
    distribution: Callable[..., Any]
    act: Callable[..., Any]
    log_prob: Callable[..., Any]
    needs: tuple[str, ...] = ()


class Backend(NamedTuple):
    """What a policy needs of the library that its network is written in.

    Attributes:
        bind: `(network, observation_space, num_actions, switches)` to an object with `init` and `apply`.
        compile: `(function, names of static arguments, spec) -> function`.
        arrays: A tree of what users pass to one of the library's arrays.
        full: `(shape, value, NumPy's dtype) -> array`.
        draw: `(key, shape, dtype) -> standard normal noise`.
        check_key: Refuses what is no key.
        check_params: `(params, function that gives the expected ones)`: refuses others.
        abstract: `(function, *arguments)` to its result, of which only shapes are read.
        key: Any key.
    """

    bind: Callable[..., Any]
    compile: Callable[..., Callable[..., Any]]
    arrays: Callable[[Any], Any]
    full: Callable[..., Any]
    draw: Callable[..., Any]
    check_key: Callable[[Any], None]
    check_params: Callable[[Any, Callable[[], Any]], None]
    abstract: Callable[..., Any]
    key: Callable[[], Any]


def build(spec: Spec, kind: Kind, reduction: str, keepdims: bool) -> Policy:
    """The functions of a policy, around a network and a kind of distribution.

    A network of another library than JAX comes in an object with the attributes `network` and `backend`.
    """
    backend: Backend = getattr(spec.network, "backend", _JAX)
    given = spec.network if backend is _JAX else spec.network.network
    spec = dataclasses.replace(spec, network=hashable(given))
    num_actions = spaces.size(spec.action_space)
    network = backend.bind(spec.network, spec.observation_space, num_actions, kind.needs)

    def initial_carry(batch_shape: tuple[int, ...] = ()) -> Any:
        return network.initial_carry(batch_shape) if hasattr(network, "initial_carry") else ()

    recurrent = bool(jax.tree.leaves(backend.abstract(initial_carry)))

    def init(key: Array, observations: Any = None) -> Params:
        backend.check_key(key)
        if observations is None:
            observations = spaces.zeros(spec.observation_space, (1,), backend.full)
        observations = backend.arrays(observations)
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        if recurrent:
            return network.init(key, observations, initial_carry(batch_shape), None)
        return network.init(key, observations)

    def shaped(reduced: Array) -> Array:
        return xp.expand_dims(reduced, -1) if keepdims and reduction != "none" else reduced

    @functools.cache
    def expected_params() -> Any:
        return backend.abstract(init, backend.key())

    def forward(params: Params, observations: Any, carry: Any, resets: Any) -> tuple[Any, dict[str, Any], Any]:
        observations, carry, resets = backend.arrays((observations, carry, resets))
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        backend.check_params(params, expected_params)
        if recurrent:
            checks.memory(carry, resets, functools.partial(backend.abstract, initial_carry), batch_shape)
            returned = network.apply(params, observations, carry, resets)
        else:
            _refuse_memory(carry, resets)
            returned = network.apply(params, observations)
        mean, log_std, extras = checks.mean_and_log_std(returned, batch_shape, num_actions)
        mean, log_std = kind.transform(mean, log_std)
        outputs = {**extras, "mean_actions": mean, "log_std": xp.broadcast_to(log_std, mean.shape)}
        return kind.distribution(mean, log_std, outputs), outputs, mean

    def apply(params: Params, observations: Any, *, carry: Any = None, resets: Any = None) -> Any:
        _, outputs, mean = forward(params, observations, carry, resets)
        # With log_std of the mean's shape, so that the arrays still fit together after a vmap.
        return kind.distribution(mean, outputs["log_std"], outputs), outputs

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
    return Policy(*compiled, initial_carry=initial_carry, spec=spec)


def _compiled(function: Callable[..., Any], static: tuple[str, ...], spec: Spec) -> Callable[..., Any]:
    """A compiled function whose refusal of observations that are no numbers is ours, not JAX's.

    In strict mode the values are looked at too.
    """
    compiled, space = jax.jit(function, static_argnames=static), spec.observation_space

    @functools.wraps(compiled)
    def explained(*arguments: Any, **options: Any) -> Any:
        if strictness.ON.get():
            given = inspect.signature(compiled).bind_partial(*arguments, **options).arguments
            strictness.look(given, strictness.support(spec.kind, dict(spec.options), spec.action_space))
        try:
            return compiled(*arguments, **options)
        except TypeError:
            # JAX refuses text and objects before any of our code is traced.
            given = inspect.signature(compiled).bind_partial(*arguments, **options).arguments
            if given.get("observations") is not None:
                spaces.cast(space, given["observations"])
            raise

    return explained


def _plain(value: Any) -> Any:
    # JSON has no number for infinity.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_memory(carry: Any, resets: Any) -> None:
    if (carry is not None and jax.tree.leaves(carry)) or resets is not None:
        name, came = ("carry", carry) if resets is None else ("resets", resets)
        shapes = [tuple(xp.shape(leaf)) for leaf in jax.tree.leaves(came)]
        raise ValueError(
            f"{name}: expected None, got arrays of shapes {shapes}: this network has no memory. Leave the argument out."
        )


def _abstract(function: Callable[..., Any], *arguments: Any) -> Any:
    # Closed over, for a batch shape is no array.
    return jax.eval_shape(lambda: function(*arguments))


_JAX = Backend(
    bind=bind,
    compile=_compiled,
    arrays=lambda tree: tree,
    full=jnp.full,
    draw=standard_normal,
    check_key=checks.key,
    check_params=lambda params, expected: checks.tree(params, expected(), "params"),
    abstract=_abstract,
    key=lambda: jax.random.key(0),
)

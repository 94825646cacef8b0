"""Construction of a policy from a network and a `Kind`, which defines the distribution."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.core.choices import choose, nearest
from gaussjax.core.compiled import flag, refuse_huge
from gaussjax.distributions.distribution import check_reduction
from gaussjax.networks.description import hashable
from gaussjax.networks.heads import gsde_noise
from gaussjax.policy import checks
from gaussjax.policy.backend import JAX, Backend
from gaussjax.policy.policy import ActOutput, EvaluateOutput, Kind, Params, Policy, Spec

_OPTIONS = ("clip_actions", "clip_mean_actions", "clip_log_std", "min_log_std", "max_log_std", "clipped_log_prob")


def build(
    kind: Kind,
    network: Any,
    observation_space: Any,
    action_space: Any,
    *,
    reduction: str = "sum",
    keepdims: bool = True,
    **options: Any,
) -> Policy:
    """Makes a policy of any kind, including a kind that you define.

    Args:
        kind: The kind of policy. Its distribution has the methods of `gaussjax.distributions.Distribution`.
        network: As for `gaussjax.gaussian`.
        observation_space: As for `gaussjax.gaussian`.
        action_space: As for `gaussjax.gaussian`.
        reduction: As for `gaussjax.gaussian`.
        keepdims: As for `gaussjax.gaussian`.
        **options: Plain data that the spec stores. `clip_log_std=True` with `min_log_std` and `max_log_std` clips
            log_std. A kind with a factory has the factory's options; for another kind all other names are notes.

    Returns:
        The policy.

    Raises:
        ValueError: The reduction does not exist, an option has no effect, the bounds of the Box cross, or the network's
            initial_log_std is outside of the bounds of log_std.
        TypeError: The action space is not a Box, the network has no `init` and `apply`, or an option has another type.

    Example:
        >>> import jax, jax.numpy as jnp, gaussjax
        >>> @gaussjax.distributions.register
        ... class Laplace(gaussjax.distributions.Distribution):
        ...     loc: jax.Array
        ...     log_scale: jax.Array
        ...     def from_noise(self, noise):
        ...         tail = jnp.log(2.0) + jax.scipy.stats.norm.logcdf(-jnp.abs(noise))
        ...         return self.loc - jnp.sign(noise) * jnp.exp(self.log_scale) * tail
        ...     def log_prob(self, actions, reduction="sum"):
        ...         distance = jnp.abs(actions - self.loc) * jnp.exp(-self.log_scale)
        ...         return gaussjax.distributions.reduce(-distance - self.log_scale - jnp.log(2.0), reduction)
        ...     def entropy(self, reduction="sum"):
        ...         return gaussjax.distributions.reduce(1.0 + self.log_scale + jnp.log(2.0), reduction)
        ...     def mean(self):
        ...         return self.loc
        >>> laplace = Kind("laplace", lambda mean, log_std, outputs: Laplace(mean, log_std - 0.5 * jnp.log(2.0)))
        >>> policy = build(laplace, gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> params = policy.init(jax.random.key(0))
        >>> actions, log_prob, outputs = policy.act(params, jax.random.key(1), jnp.zeros((5, 3)))
        >>> actions.shape, log_prob.shape
        ((5, 2), (5, 1))
        >>> again = policy.evaluate(params, jnp.zeros((5, 3)), raw_actions=outputs["raw_actions"])
        >>> bool(jnp.allclose(again.log_prob, log_prob))
        True
    """
    check_reduction(reduction)
    options = _checked_options(kind, options)
    # gaussjax.torch passes a record of the network and its backend in place of the network.
    backend: Backend = getattr(network, "backend", JAX)
    network = checks.network(network) if backend is JAX else network.network
    observed, box = spaces.as_space(observation_space), spaces.action_box(action_space)
    if not spaces.size(observed):
        raise ValueError(f"observation_space: expected at least one number, got {observed}, whose elements are empty.")
    clips = options.get("clip_log_std", False)
    checks.initial_log_std(network, **{name: options[name] for name in ("min_log_std", "max_log_std") if clips})
    options = {**options, "reduction": reduction, "keepdims": flag(keepdims, "keepdims")}
    spec = Spec(kind.name, hashable(network), observed, box, tuple(options.items()))
    if kind.factory is None:
        kind = kind._replace(factory=_Build(kind))
    return Policy(**_functions(spec, kind, backend, reduction, keepdims), spec=spec, kind=kind)


def _checked_options(kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options; raises an error for an option without effect, unless it is a note of the user."""
    clips = inspect.signature(checks.log_std_options).parameters
    known = clips if kind.factory is None else inspect.signature(kind.factory).parameters
    for name in options.keys() - known.keys():
        # The spec keeps notes with a kind that has no factory, but no names that seem to be options.
        if kind.factory is not None or nearest(name, _OPTIONS):
            choose(known, name, f"option of {kind.name}")
    if kind.factory is None and clips.keys() & options.keys():
        defaults = dict(zip(clips, (False, *checks.LOG_STD_BOUNDS), strict=True))
        return {**options, **checks.log_std_options(**{name: options.get(name, defaults[name]) for name in clips})}
    return options


class _Build(NamedTuple):
    """Factory for policies of a user's kind; a record, because records compare and pickle by value."""

    kind: Kind

    def __call__(self, network: Any, observation_space: Any, action_space: Any, **options: Any) -> Policy:
        return build(self.kind, network, observation_space, action_space, **options)


def _functions(spec: Spec, kind: Kind, backend: Backend, reduction: str, keepdims: bool) -> dict[str, Any]:
    num_actions, options = spaces.size(spec.action_space), dict(spec.options)
    clips_log_std = options.get("clip_log_std", False)
    network = backend.bind(spec.network, spec.observation_space, num_actions, kind.network_fields)

    def compiled(function: Any, *static: str) -> Any:
        # Python prints this name in its errors about missing or unknown arguments.
        function.__qualname__ = f"policy.{function.__name__}"
        return backend.compile(function, static)

    def initial_carry(batch_shape: tuple[int, ...] = ()) -> Any:
        batch_shape = checks.batch_shape(batch_shape)
        return network.initial_carry(batch_shape) if hasattr(network, "initial_carry") else ()

    recurrent = bool(jax.tree.leaves(backend.abstract(initial_carry)))

    @compiled
    def init(key: Array, observations: Any = None) -> Params:
        backend.check_key(key)
        if observations is None:
            observations = spaces.zeros(spec.observation_space, (1,), backend.full)
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        state = (initial_carry(batch_shape), None) if recurrent else ()
        try:
            params = network.init(key, observations, *state)
        except checks.IMPURE as error:
            raise checks.impure(error) from error
        for leaf in jax.tree.leaves(params):
            refuse_huge(xp.shape(leaf), "params")
        return params

    @functools.cache
    def expected_params() -> Any:
        return backend.abstract(init, backend.key())

    def expected_carry(batch_shape: tuple[int, ...]) -> Any:
        return backend.abstract(lambda: initial_carry(batch_shape))

    def forward(params: Params, observations: Any, carry: Any, resets: Any) -> tuple[Any, dict[str, Any], Any, Any]:
        """Calls the network once; returns the distribution, all outputs, the mean, and the weights of gSDE or None."""
        observations, batch_shape = spaces.cast(spec.observation_space, observations)
        backend.check_params(params, expected_params)
        if recurrent:
            state = carry, checks.carry_and_resets(carry, resets, expected_carry, batch_shape)
        else:
            if carry is not None or resets is not None:
                checks.no_carry(carry, resets)
            state = ()
        try:
            returned = network.apply(params, observations, *state)
        except checks.IMPURE as error:
            raise checks.impure(error) from error
        mean, log_std, extras, weights = checks.network_outputs(returned, batch_shape, num_actions)
        if clips_log_std:
            log_std = xp.clip(log_std, options["min_log_std"], options["max_log_std"])
        if kind.clip_mean is not None:
            mean = kind.clip_mean(mean)
        shared = {"log_std": log_std, **{name: extras[name] for name in kind.network_outputs if name in extras}}
        if recurrent:
            # A row before a reset may be NaN. If a loss leaves it out, it adds zero to the gradients of parameters that
            # all rows share, but the derivative of its density is NaN.
            known = xp.all(mean == mean, axis=(-1,), keepdims=True)
            shared = {name: xp.where(known, x, xp.stop_gradient(x)) for name, x in shared.items()}
            if weights is not None:
                weights = xp.where(xp.expand_dims(known, -1), weights, xp.stop_gradient(weights))
        distribution = kind.distribution(mean, shared["log_std"], {**extras, **shared})
        # A log_std of shape (act,) is broadcast to the mean, so that a batch and a vmap return the same shapes.
        shared = {name: xp.broadcast_to(x, (*mean.shape[:-1], x.shape[-1])) for name, x in shared.items()}
        return distribution, {**extras, "mean_actions": mean, **shared}, mean, weights

    def scores(distribution: Any, taken_actions: Any, raw_actions: Any, shape: tuple[int, ...]) -> Array:
        if raw_actions is not None:
            return kind.raw_log_prob(distribution, checks.same_shape(raw_actions, shape, "raw_actions"), reduction)
        return kind.log_prob(distribution, checks.same_shape(taken_actions, shape, "taken_actions"), reduction)

    def keep_axis(reduced: Array, reduction: str) -> Array:
        return xp.expand_dims(reduced, -1) if keepdims and reduction != "none" else reduced

    def distribution_of(outputs: dict[str, Any]) -> Any:
        checks.outputs(outputs)
        return kind.distribution(outputs["mean_actions"], outputs["log_std"], outputs)

    # The functions below have the types that `Policy` declares.
    @compiled
    def apply(params, observations, *, carry=None, resets=None):
        outputs = forward(params, observations, carry, resets)[1]
        return distribution_of(outputs), outputs

    def act(params, key, observations, *, taken_actions=None, carry=None, resets=None, deterministic=False, noise=None):
        if deterministic is not True and deterministic is not False:
            deterministic = flag(deterministic, "deterministic")
        if key is not None or not (deterministic or noise is not None):
            backend.check_key(key)
        distribution, outputs, mean, weights = forward(params, observations, carry, resets)
        if noise is not None:
            noise = xp.astype(checks.noise(noise, mean.shape, weights, deterministic), mean.dtype)
            # A matrix of gSDE gives the same function of the features at each call.
            noise = noise if noise.ndim == mean.ndim else gsde_noise(weights, noise)
        elif not deterministic:
            noise = backend.draw(key, mean.shape, mean.dtype)
        raw_actions, actions, log_prob = kind.sample(distribution, noise, reduction)
        if taken_actions is not None:
            log_prob = scores(distribution, taken_actions, None, mean.shape)
        return ActOutput(actions, keep_axis(log_prob, reduction), {**outputs, "raw_actions": raw_actions})

    @compiled
    def evaluate(params, observations, taken_actions=None, *, raw_actions=None, carry=None, resets=None):
        checks.one_of(taken_actions, raw_actions)
        distribution, outputs, mean, _ = forward(params, observations, carry, resets)
        log_prob = scores(distribution, taken_actions, raw_actions, mean.shape)
        entropy = distribution.entropy(reduction)
        return EvaluateOutput(keep_axis(log_prob, reduction), keep_axis(entropy, reduction), outputs)

    def entropy(params, observations, *, reduction="none", carry=None, resets=None):
        distribution, _, mean, _ = forward(params, observations, carry, resets)
        terms = distribution.entropy(reduction)
        return xp.broadcast_to(terms, mean.shape) if reduction == "none" else keep_axis(terms, reduction)

    @compiled
    def log_std(params, observations, *, carry=None, resets=None):
        return forward(params, observations, carry, resets)[1]["log_std"]

    def noise(key, batch_shape=()):
        backend.check_key(key)
        shape = (*checks.batch_shape(batch_shape), num_actions)
        refuse_huge(shape, "noise")
        return backend.draw(key, shape, backend.float32)

    @functools.cache
    def noise_shape() -> tuple[int, ...]:
        def weights() -> Any:
            observations = spaces.zeros(spec.observation_space, (1,), backend.full)
            carry = initial_carry((1,)) if recurrent else None
            return forward(init(backend.key()), observations, carry, None)[3]

        found = backend.abstract(weights)
        return (num_actions,) if found is None else tuple(found.shape[-2:])

    noise = compiled(noise, "batch_shape")
    noise.shape = noise_shape
    initial_carry.__qualname__ = "policy.initial_carry"
    return {
        "init": init,
        "apply": apply,
        "act": compiled(act, "deterministic"),
        "evaluate": evaluate,
        "entropy": compiled(entropy, "reduction"),
        "log_std": log_std,
        "distribution": distribution_of,
        "noise": noise,
        "initial_carry": initial_carry,
    }

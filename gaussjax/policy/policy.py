"""Types of a policy: the record of its functions, their results, the kind of policy and the spec."""

# ruff: noqa: D101
from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Float

from gaussjax import spaces
from gaussjax.core.arrays import xp
from gaussjax.distributions import Distribution
from gaussjax.networks.description import identity, to_dict

Params = Any
"""The pytree of parameters that the network's `init` returns."""


class ActOutput(NamedTuple):
    """Result of `policy.act`: actions, log-densities and the other outputs of the forward pass.

    Attributes:
        actions: Actions for the environment, `(…, act)`.
        log_prob: Log-density in nats of the actions, or of `taken_actions`; `(…, 1)` with the default options.
        outputs: `mean_actions`, `log_std` and `raw_actions` (before clip or squash), each `(…, act)`; the next `carry`
            of a recurrent network; and the other outputs of the network.
    """

    actions: Float[Array, "*batch act"]
    log_prob: Float[Array, "..."]
    outputs: dict[str, Any]


class EvaluateOutput(NamedTuple):
    """Result of `policy.evaluate`: log-densities, entropies and the other outputs of the forward pass.

    Attributes:
        log_prob: Log-density of the actions in nats, `(…, 1)` with the default options of the factory.
        entropy: Entropy of the distribution in nats, reduced over the dimensions like `log_prob`.
        outputs: The outputs of `act` without `raw_actions`, since nothing is sampled.
    """

    log_prob: Float[Array, "..."]
    entropy: Float[Array, "..."]
    outputs: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Spec:
    """Description of a policy, from which `gaussjax.from_spec` makes the same policy again.

    Attributes:
        kind: Name of the kind, such as "gaussian".
        network: The network as passed to the factory.
        observation_space: Observation space.
        action_space: Action space.
        options: Options of the factory as pairs of name and value.
    """

    kind: str
    network: Any
    observation_space: spaces.Space
    action_space: spaces.Box
    options: tuple[tuple[str, Any], ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        return self.kind, identity(self.network), self.observation_space, self.action_space, self.options

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as a dict of plain data that JSON can hold."""
        return {
            "kind": self.kind,
            "network": to_dict(self.network),
            "observation_space": spaces.to_dict(self.observation_space),
            "action_space": spaces.to_dict(self.action_space),
            "options": {name: _plain(value) for name, value in self.options},
        }


MakeDistribution = Callable[[Array, Array, dict[str, Any]], Distribution]
"""Function `(mean, log_std, outputs of the network) -> distribution`."""
Sample = Callable[[Any, Array | None, str], tuple[Array, Array, Array]]
"""Function `(distribution, noise or None, reduction) -> (raw actions, actions, log_prob)`; None: deterministic."""
Score = Callable[[Any, Array, str], Array]
"""Function `(distribution, actions, reduction) -> log-densities in nats`."""


def _log_prob(distribution: Any, actions: Array, reduction: str) -> Array:
    return distribution.log_prob(actions, reduction)


def _sample(distribution: Any, noise: Array | None, reduction: str) -> tuple[Array, Array, Array]:
    noise = xp.zeros_like(distribution.loc) if noise is None else noise
    actions = distribution.from_noise(noise)
    return actions, actions, distribution.noise_log_prob(noise, reduction)


class Kind(NamedTuple):
    """A kind of policy: the distribution, and the conversion of its samples to actions and log-densities.

    `name` and `distribution` are required; `gaussjax.policy.build` has an example.

    Attributes:
        name: Name of the kind in a spec.
        distribution: Function that makes the distribution from the outputs of the network.
        sample: Function that samples actions and scores them. By default it calls `from_noise` and `noise_log_prob`
            of the distribution, with zero noise for the deterministic action.
        raw_log_prob: Function that scores raw actions exactly as `sample` does.
        log_prob: Function that scores actions whose raw actions are unknown.
        clip_mean: Function that clips the mean before the distribution is made, or None.
        network_outputs: Names of the outputs that the network must return in addition to mean and log_std.
        network_fields: Pairs (field, value): a field of the network that is None or "auto" is set to the value.
        support: The Box that contains all actions, or None if every real vector has a density.
        saturation_margin: An action nearer to a bound than this fraction of half the Box's width counts as saturated.
        factory: `(network, observation_space, action_space, **options) -> policy`; None means `build` with this kind.
    """

    name: str
    distribution: MakeDistribution
    sample: Sample = _sample
    raw_log_prob: Score = _log_prob
    log_prob: Score = _log_prob
    clip_mean: Callable[[Array], Array] | None = None
    network_outputs: tuple[str, ...] = ()
    network_fields: tuple[tuple[str, Any], ...] = (("output_activation", "tanh"),)
    support: spaces.Box | None = None
    saturation_margin: float = 0.0
    factory: Callable[..., Policy] | None = None


# Types of the functions in a `Policy`. An editor shows these docstrings where a function is called.
class Init(Protocol):
    def __call__(self, key: Any, observations: Any = None) -> Params:
        """Draws the parameters of the network.

        Args:
            key: JAX key, which is consumed.
            observations: Example observations, for a network that reads its sizes from them.

        Returns:
            Pytree of the parameters.
        """
        ...


class Apply(Protocol):
    def __call__(
        self, params: Params, observations: Any, *, carry: Any = None, resets: Any = None
    ) -> tuple[Any, dict[str, Any]]:
        """Makes the distribution of the actions.

        Args:
            params: Pytree that `init` returned.
            observations: Observations, `(…, obs)` or a tree of such arrays.
            carry: State of a recurrent network, such as `initial_carry` returns.
            resets: True where an episode starts, `(…,)`; the carry is zeroed there.

        Returns:
            The distribution, and a dict with `mean_actions`, `log_std` and the other outputs of the network.
        """
        ...


class Act(Protocol):
    def __call__(
        self,
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
        """Samples actions and scores them.

        Args:
            params: Pytree that `init` returned.
            key: JAX key, which is consumed; None with `noise` or `deterministic`.
            observations: Observations, `(…, obs)` or a tree of such arrays.
            taken_actions: Actions to score in place of the sampled ones, `(…, act)`.
            carry: State of a recurrent network, such as `initial_carry` returns.
            resets: True where an episode starts, `(…,)`; the carry is zeroed there.
            deterministic: Return the deterministic action in place of a sample.
            noise: Standard normal noise in place of the draw, `(…, act)`; with `std="gsde"` `(…, features, act)`.

        Returns:
            Actions `(…, act)`, log-densities in nats, `(…, 1)` by default, and a dict of the other outputs.
        """
        ...


class Evaluate(Protocol):
    def __call__(
        self,
        params: Params,
        observations: Any,
        taken_actions: Any = None,
        *,
        raw_actions: Any = None,
        carry: Any = None,
        resets: Any = None,
    ) -> EvaluateOutput:
        """Scores actions from one forward pass, without sampling. Exactly one of the actions is required.

        Args:
            params: Pytree that `init` returned.
            observations: Observations, `(…, obs)` or a tree of such arrays.
            taken_actions: Actions of the environment, `(…, act)`, if the raw actions are unknown.
            raw_actions: `raw_actions` from the outputs of `act`, `(…, act)`, scored exactly as in `act`.
            carry: State of a recurrent network, such as `initial_carry` returns.
            resets: True where an episode starts, `(…,)`; the carry is zeroed there.

        Returns:
            Log-densities and entropies in nats, each `(…, 1)` by default, and a dict of the other outputs.
        """
        ...


class Entropy(Protocol):
    def __call__(
        self, params: Params, observations: Any, *, reduction: str = "none", carry: Any = None, resets: Any = None
    ) -> Array:
        """Entropy of the distribution in nats, `(…, act)`; `reduction="sum"` adds over the dimensions.

        The arguments are those of `apply`.
        """
        ...


class LogStd(Protocol):
    def __call__(self, params: Params, observations: Any, *, carry: Any = None, resets: Any = None) -> Array:
        """Clipped log standard deviation of each dimension, `(…, act)`. The arguments are those of `apply`."""
        ...


class MakeFromOutputs(Protocol):
    def __call__(self, outputs: dict[str, Any]) -> Any:
        """Makes the distribution from the outputs of `act` or `evaluate`, without another forward pass."""
        ...


class Noise(Protocol):
    shape: Callable[[], tuple[int, ...]]

    def __call__(self, key: Any, batch_shape: tuple[int, ...] = ()) -> Array:
        """Draws the float32 noise that `act` draws from the same key, `(*batch_shape, act)`."""
        ...


class InitialCarry(Protocol):
    def __call__(self, batch_shape: tuple[int, ...] = ()) -> Any:
        """Zero state of a recurrent network for a batch, such as `(num_envs,)`; `()` for other networks."""
        ...


class Policy(NamedTuple):
    """A policy: a record of pure functions, which `jax.jit` compiles alone or within an enclosing program.

    Results have the leading dimensions of the observations. Errors are raised while a call is traced, so the
    checks cost nothing afterwards. Policies with equal specs compare equal, so a policy as a static argument causes
    no retracing. A policy can be pickled if its network can.

    Attributes:
        init: `(key, observations=None) -> params`. The key is consumed.
        apply: `(params, observations, *, carry=None, resets=None) -> (distribution, outputs)`.
        act: `(params, key, observations, *, taken_actions=None, carry=None, resets=None, deterministic=False,
            noise=None) -> ActOutput`. The key is consumed. Standard normal `noise` of the actions' shape replaces
            the draw, or with `std="gsde"` a matrix of it for each action, `(…, features, act)`. With `noise` or
            `deterministic` the key may be None.
        evaluate: `(params, observations, taken_actions=None, *, raw_actions=None, carry=None, resets=None) ->
            EvaluateOutput`, from one forward pass without sampling. Exactly one of the actions is required:
            `raw_actions` from the outputs of `act`, scored as in `act`, or `taken_actions`, if only those are known.
        entropy: `(params, observations, *, reduction="none", carry=None, resets=None)`: nats, `(…, act)` by default.
        log_std: `(params, observations, *, carry=None, resets=None)`: clipped log standard deviation, `(…, act)`.
        distribution: `(outputs) -> distribution`, without another forward pass.
        noise: `(key, batch_shape=()) -> noise`: the float32 noise that `act` draws from the same key, `(…, act)`.
        initial_carry: `(batch_shape=()) -> carry`: zeros, or `()` for a network that is not recurrent.
        spec: Description of the policy, hashable.
        kind: The kind of policy, for code that works with all kinds.
    """

    init: Init
    apply: Apply
    act: Act
    evaluate: Evaluate
    entropy: Entropy
    log_std: LogStd
    distribution: MakeFromOutputs
    noise: Noise
    initial_carry: InitialCarry
    spec: Spec
    kind: Kind

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the noise of one action that can be held: `(features, act)` with gSDE, else `(act,)`."""
        return self.noise.shape()

    def __repr__(self) -> str:
        spec = self.spec
        return f"<{spec.kind} policy: {type(spec.network).__name__}, {spec.observation_space} to {spec.action_space}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._identity() == other._identity()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[Any, ...]:
        return remake, (self.kind.factory, self.spec)

    def _identity(self) -> tuple[Any, Any]:
        return self.spec, self.kind.factory


def remake(factory: Callable[..., Policy], spec: Spec) -> Policy:
    """Calls a factory with the network, the spaces and the options of a spec."""
    return factory(spec.network, spec.observation_space, spec.action_space, **dict(spec.options))


def _plain(value: Any) -> Any:
    # JSON has no infinity, so an infinite option is written as text.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

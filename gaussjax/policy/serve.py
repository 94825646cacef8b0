"""Policies bound to parameters and observation statistics, for robots and servers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gaussjax import networks, normalize
from gaussjax.core.compiled import Compiled, checked_tree
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.policy import checks
from gaussjax.policy.policy import ActOutput, Params, Policy


class Served(Protocol):
    """A served policy: `(observations, key=None) -> actions`."""

    def __call__(self, observations: Any, key: Any = None) -> Array:
        """Actions `(…, act)` of observations `(…, obs)`; deterministic without a key, which is consumed."""
        ...


class BoundAct(Protocol):
    """Function `policy.act` with bound parameters and observation statistics."""

    def __call__(
        self, observations: Any, key: Any = None, *, carry: Any = None, resets: Any = None, noise: Any = None
    ) -> ActOutput:
        """Actions `(…, act)`, log-densities and outputs; deterministic without noise and key, which is consumed.

        `carry` is the state of a recurrent network, and `resets` is True where an episode starts, `(…,)`.
        """
        ...


def serve(policy: Policy, params: Params, normalizer: normalize.Normalizer = None) -> Served:
    """Compiles a function from observations to actions, for a robot or a server.

    The parameters are constants of the compiled program, which computes only the actions. The program leaves out a
    critic and the observations that only the critic needs.

    Args:
        policy: A policy of JAX or gaussjax.torch whose network is not recurrent.
        params: Parameters of the policy.
        normalizer: Observation statistics of the training, if any. Later changes to them or to params have no effect.
            A network that scales its pixels gets them as they are.

    Returns:
        `(observations, key=None) -> actions`, `(…, act)`. The key is consumed; without one the actions are
        deterministic.

    Raises:
        ValueError: The network is recurrent, so that its carry has to be kept between calls.
        TypeError: `policy` is not a policy, `normalizer` is no `Statistics`, or a leaf of `params` is no array.

    Note:
        On CPU, JAX runs each call in another thread, which takes longer than a small policy itself. A process that
        serves single observations can disable these threads before its first JAX operation, for the whole process:
        `jax.config.update("jax_cpu_enable_async_dispatch", False)`.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,)))
        >>> act = serve(policy, policy.init(jax.random.key(0)))
        >>> act(np.zeros((5, 3), np.float32)).shape, act(np.zeros(3, np.float32), jax.random.key(1)).shape
        ((5, 2), (2,))
    """
    checks.policy(policy)
    if jax.tree.leaves(policy.initial_carry()):
        raise ValueError(
            "policy: expected a network that is not recurrent, got one whose carry has to be kept between calls. Call "
            "policy.act with its carry, or gaussjax.load(file).act."
        )
    return bound_act(policy, params, normalizer, only_actions=True)


def bound_act(policy: Policy, params: Params, normalizer: Any, only_actions: bool = False) -> Any:
    """Binds `policy.act` to parameters and observation statistics, and leaves out a critic."""
    normalize.check(normalizer, "normalizer")
    network = policy.spec.network
    normalizer = networks.actor_observations(network)(normalizer)
    if in_jax := isinstance(policy.init, Compiled):
        # A copy of an array loses its mask, so the copy would pass the checks of the call.
        params = checked_tree(params, "params")
    policy, params = networks.actor(policy, params)
    normalizer = statistics_for(policy, normalizer)
    # Later changes do not reach a copy. NumPy arrays become constants of the program; JAX arrays would not.
    copied = np.array if in_jax else lambda leaf: leaf.detach().clone() if hasattr(leaf, "detach") else leaf
    params, normalizer = jax.tree.map(copied, (params, normalizer))

    # Pickle can write a partial call of a module's function, but no function that is defined here.
    act = functools.partial(_act, network, policy, params, only_actions)
    if in_jax and jax.tree.leaves(normalizer):
        return _Bound(act, normalizer)
    act = functools.partial(act, normalizer, None)
    return Compiled(act) if in_jax else act


class _Mean(NamedTuple):
    """Mean of one part of the observations: as float64, as the fields of its `Statistics`, and zeros in their place."""

    exact: np.ndarray
    fields: dict[str, Array]
    zeros: dict[str, Array]


class _Bound(Compiled):
    """A compiled `act(normalizer, means, observations, …)` with bound statistics, which keeps the digits of 64 bits.

    JAX would round observations of NumPy to 32 bits before the program subtracts their mean. So their mean is
    subtracted here, and the program gets zeros as their means.
    """

    def __init__(self, act: Any, normalizer: Any):
        super().__init__(functools.partial(act, normalizer))
        self._arguments = act, normalizer
        self._select = networks.actor_observations(act.args[0])
        self._means = jax.tree.map(_mean, normalizer, is_leaf=_is_statistics)
        self._fields = jax.tree.map(lambda mean: mean.fields, self._means, is_leaf=_is_mean)

    def __call__(self, observations: Any, *arguments: Any, **options: Any) -> Any:
        """Acts as `Served` and `BoundAct` state."""
        fields, plain = self._fields, type(observations) is np.ndarray
        if any(map(_is_long, [observations] if plain else jax.tree.leaves(observations))):
            fields, observations = _subtracted(self._means, self._fields, self._select(observations))
        return super().__call__(fields, observations, *arguments, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Bound, self._arguments


def _subtracted(means: Any, fields: Any, observations: Any) -> tuple[Any, Any]:
    """Subtracts the mean from each part of 64 bits; also returns the fields of the means that are still in the parts.

    Args:
        means: A `_Mean` for each part, nested like the observations, and None for a part without statistics.
        fields: The fields of the means.
        observations: The parts. The program refuses those whose nesting or shape differs.
    """
    if isinstance(means, _Mean):
        shape = np.shape(means.exact)
        if not _is_long(observations) or observations.shape[observations.ndim - len(shape) :] != shape:
            return fields, observations
        # A difference beyond float32 has to stay finite, because it is clipped later.
        largest = np.finfo(np.float32).max
        return means.zeros, np.clip(observations - means.exact, -largest, largest).astype(np.float32)
    if isinstance(means, Mapping) and isinstance(observations, Mapping) and set(means) == set(observations):
        names: Any = list(means)
    elif isinstance(means, tuple) and isinstance(observations, (tuple, list)) and len(means) == len(observations):
        names = range(len(means))
    else:
        return fields, observations
    parts = [_subtracted(means[name], fields[name], observations[name]) for name in names]
    left, differences = zip(*parts, strict=True) if parts else ((), ())
    if isinstance(means, tuple):
        return left, differences
    return dict(zip(names, left, strict=True)), dict(zip(names, differences, strict=True))


def _mean(statistics: normalize.Statistics) -> _Mean:
    exact = np.asarray(np.sum([statistics.mean, *statistics.mean_rest], axis=0, dtype=np.float64))
    fields = {"mean": jnp.asarray(statistics.mean), "mean_rest": jnp.asarray(statistics.mean_rest)}
    return _Mean(exact, fields, jax.tree.map(jnp.zeros_like, fields))


def _is_statistics(part: Any) -> bool:
    return isinstance(part, normalize.Statistics)


def _is_mean(part: Any) -> bool:
    return isinstance(part, _Mean)


def _is_long(leaf: Any) -> bool:
    """True for a NumPy array of 64-bit numbers, which JAX would round to 32 bits."""
    array = isinstance(leaf, (np.ndarray, np.generic)) and not isinstance(leaf, np.ma.MaskedArray)
    long = array and leaf.dtype.kind in "iuf" and leaf.dtype.itemsize == 8 and leaf.dtype.isnative
    return bool(long and not jax.config.read("jax_enable_x64"))


def _act(
    network: Any,
    policy: Policy,
    params: Params,
    only_actions: bool,
    normalizer: Any,
    means: Any,
    observations: Any,
    key: Any = None,
    *,
    carry: Any = None,
    resets: Any = None,
    noise: Any = None,
) -> Any:
    """Acts on the normalised observations; `means`, unless None, replace the means of the statistics."""
    if means is not None:
        normalizer = jax.tree.map(
            lambda part, fields: part._replace(**fields), normalizer, means, is_leaf=_is_statistics
        )
    observations = networks.actor_observations(network)(observations)
    if normalizer is not None:
        observations = normalize.apply(normalizer, observations, name="observations")
    if isinstance(carry, dict) and set(carry) <= {"actor", "critic"}:
        carry = carry.get("actor")
    options = {"deterministic": key is None and noise is None, "carry": carry, "resets": resets, "noise": noise}
    output = policy.act(params, key, observations, **options)
    return output.actions if only_actions else output

"""Policies bound to parameters and observation statistics, for robots and servers."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import jax
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
    if not in_jax:
        return functools.partial(act, normalizer)
    return _Bound(act, normalizer) if jax.tree.leaves(normalizer) else Compiled(functools.partial(act, normalizer))


class _Bound(Compiled):
    """A compiled `act(normalizer, observations, …)` with bound statistics, which uses all digits of observations.

    JAX would round 64-bit numbers of NumPy to 32 bits before the program subtracts their mean. So the mean is
    subtracted here, and a second program gets the differences.
    """

    def __init__(self, act: Any, normalizer: Any):
        super().__init__(functools.partial(act, normalizer))
        self._arguments = act, normalizer
        self._select = networks.actor_observations(act.args[0])
        states, self._nesting = jax.tree.flatten(normalizer, is_leaf=lambda part: part is None or _is_statistics(part))
        self._means: list[Any] = [
            one and np.sum([one.mean, *one.mean_rest], axis=0, dtype=np.float64) for one in states
        ]
        zeros = [one and one._replace(mean=0 * one.mean, mean_rest=0 * one.mean_rest) for one in states]
        self._act_on_differences = Compiled(functools.partial(act, self._nesting.unflatten(zeros)))

    def __call__(self, observations: Any, *arguments: Any, **options: Any) -> Any:
        """Acts as `Served` and `BoundAct` state."""
        one = type(observations) is np.ndarray
        if any(map(_is_long, [observations] if one else jax.tree.leaves(observations))):
            differences = self._differences(observations)
            if differences is not None:
                return self._act_on_differences(differences, *arguments, **options)
        return super().__call__(observations, *arguments, **options)

    def _differences(self, observations: Any) -> Any:
        """The observations minus their means, or None for those that the program has to check."""
        try:
            parts = self._nesting.flatten_up_to(self._select(observations))
        except ValueError:
            return None
        pairs = list(zip(parts, self._means, strict=True))
        if jax.config.read("jax_enable_x64") or not all(mean is None or _fits(part, mean) for part, mean in pairs):
            return None
        return self._nesting.unflatten(part if mean is None else _difference(part, mean) for part, mean in pairs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Bound, self._arguments


def _is_statistics(part: Any) -> bool:
    return isinstance(part, normalize.Statistics)


def _is_long(leaf: Any) -> bool:
    return isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype.kind in "iuf" and leaf.dtype.itemsize == 8


def _fits(part: Any, mean: np.ndarray) -> bool:
    """Whether a part is an array of NumPy that `Compiled` accepts, of the shape of its mean."""
    if not isinstance(part, (np.ndarray, np.generic)) or isinstance(part, np.ma.MaskedArray):
        return False
    shape = part.shape[max(0, part.ndim - mean.ndim) :]
    return part.dtype.kind in "biuf" and part.dtype.isnative and shape == mean.shape


def _difference(part: np.ndarray, mean: np.ndarray) -> np.ndarray:
    # A difference beyond float32 has to stay finite, as it is clipped later.
    largest = np.finfo(np.float32).max
    return np.clip(part - mean, -largest, largest).astype(np.float32)


def _act(
    network: Any,
    policy: Policy,
    params: Params,
    only_actions: bool,
    normalizer: Any,
    observations: Any,
    key: Any = None,
    *,
    carry: Any = None,
    resets: Any = None,
    noise: Any = None,
) -> Any:
    observations = networks.actor_observations(network)(observations)
    if normalizer is not None:
        observations = normalize.apply(normalizer, observations, name="observations")
    if isinstance(carry, dict) and set(carry) <= {"actor", "critic"}:
        carry = carry.get("actor")
    options = {"deterministic": key is None and noise is None, "carry": carry, "resets": resets, "noise": noise}
    output = policy.act(params, key, observations, **options)
    return output.actions if only_actions else output

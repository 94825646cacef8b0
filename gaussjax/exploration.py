"""Noise for exploration that may last for several steps, for `policy.act(noise=)`.

The noise of every step is standard normal, so `log_prob`, entropy and the losses of PPO and SAC are those of a single
step, as in the papers: they ignore that the noise of successive steps is correlated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gaussjax.core.arrays import as_array, is_other, xp
from gaussjax.core.compiled import Compiled, anywhere, check_number, count, number
from gaussjax.policy import Policy, checks
from gaussjax.random import keys

# Time constants of coloured noise are 1, 2, …, 2¹¹ steps. The weights fit the spectrum from a period of 2¹¹ steps to
# the shortest one, of two steps; these are three decades.
_OCTAVES = 12
_ITERATIONS = 2000
_REMAKE = "Make it with init(key, resets.shape) of this source, and pass it first: step(state, key, resets)."


class Exploration(NamedTuple):
    """A source of noise: a record of pure functions, for `jit`, `vmap` and `scan`, or for tensors of torch.

    `log_prob` of an action is the density of a single step, whatever the source. The training loops call `step` inside
    `jax.vmap`, for one environment with a key of its own.

    Attributes:
        init: `(key, batch_shape=()) -> state`. The key is consumed.
        step: `(state, key, resets) -> (state, noise)`. The key is consumed. `resets` are flags of the batch shape, True
            for an observation that starts an episode: its noise is independent of all noise before. The noise has
            the batch shape followed by `policy.noise_shape`, or by `(act,)` if it is white, and each of its numbers is
            standard normal.
        lasts: False for noise whose steps are independent. The loops then call `step` once for a whole rollout, with a
            batch of steps and environments and all flags True, instead of once for each environment and step.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> exploration = colored(policy, beta=1.0)
        >>> state = exploration.init(jax.random.key(0), (5,))
        >>> state, noise = exploration.step(state, jax.random.key(1), jnp.zeros(5, bool))
        >>> policy.act(policy.init(jax.random.key(2)), None, jnp.zeros((5, 3)), noise=noise).actions.shape
        (5, 2)
    """

    init: Callable[..., Any]
    step: Callable[[Any, Any, Any], tuple[Any, Any]]
    lasts: bool = True

    def step_rows(self, state: Any, key: Array, resets: Bool[Array, " envs"], rows: Int[Array, " envs"]) -> Any:
        """Calls `step` in JAX for each environment with a key of its own, made from `key` and its number in `rows`.

        The noise of an environment then depends neither on the other environments nor on the device that steps it.
        The entries of `state` and `resets` belong to the environments in the order of `rows`.
        """
        own = jax.vmap(partial(keys.fold_in, key))(rows)
        return jax.vmap(self.step)(state, own, resets)

    def check_rows(self, state: Any, num_envs: int) -> None:
        """Raises ValueError unless `state` has the shapes of the state of `num_envs` environments."""
        expected = jax.eval_shape(lambda: self.init(jax.random.key(0), (num_envs,)))
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (expected, state)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"state: expected a state of the noise of shapes {shapes[0]}, got {shapes[1]}. Make it with "
                f"start(environment, policy, key, {num_envs}, exploration)."
            )

    def draw(self, key: Array, batch_shape: tuple[int, ...]) -> Any:
        """Noise of a source whose steps are independent, for the steps of `batch_shape` in JAX; consumes `key`."""
        # All steps are resets, so the first state does not matter.
        return self.step(self.init(jax.random.key(0), batch_shape), key, jnp.ones(batch_shape, bool))[1]

    def sources(self, policy: Policy) -> tuple[Callable[..., Any], Exploration | None]:
        """The parts of this source that a loop uses in JAX: a function that draws independent noise, and what lasts.

        Args:
            policy: The policy that takes the noise.

        Returns:
            A function `(key, batch_shape) -> noise` for noise whose steps are independent; and this source, or None if
            its noise does not last.
        """
        return (policy.noise, self) if self.lasts else (self.draw, None)


class Held(NamedTuple):
    """State of noise that is held.

    Attributes:
        noise: Noise of the latest step.
        age: Number of steps for which it has been used.
    """

    noise: Float[Array, "*batch act"]
    age: Int[Array, "*batch"]


def white(policy: Policy) -> Exploration:
    """Noise that is new at each step, as `act` draws it from a key: a number for each action, with gSDE too.

    Args:
        policy: The policy that takes the noise, of JAX or of torch.

    Returns:
        The source, whose state is `()`.

    Raises:
        TypeError: `policy` is not a policy.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(2,)))
        >>> state, noise = white(policy).step((), jax.random.key(0), jnp.zeros(5, bool))
        >>> bool((noise == policy.noise(jax.random.key(0), (5,))).all())
        True
    """
    _check(policy)

    def init(key: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        checks.batch_shape(batch_shape)
        return ()

    def step(state: Any, key: Any, resets: Any) -> tuple[Any, Any]:
        return state, policy.noise(key, tuple(_flags(resets).shape))

    return _record(policy, init, step, lasts=False)


def held(policy: Policy, num_steps: int) -> Exploration:
    """Noise that stays the same for several steps of an episode, and then is drawn again.

    A policy with `std="gsde"` holds the matrix of its noise, so the noise of the actions still varies with the features
    of the observations. For other policies the noise of the actions is held.

    Args:
        policy: The policy that takes the noise, of JAX or of torch.
        num_steps: Steps for which a noise is used; it ends earlier with its episode.

    Returns:
        The source, whose state is a `Held`.

    Raises:
        TypeError: `policy` is not a policy, or `num_steps` not an integer.
        ValueError: `num_steps` is below 1.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> exploration = held(policy, num_steps=3)
        >>> inputs = jax.random.split(jax.random.key(1), 6), jnp.zeros(6, bool)
        >>> start = exploration.init(jax.random.key(0))
        >>> noise = jax.lax.scan(lambda state, at: exploration.step(state, *at), start, inputs)[1]
        >>> (noise[1:, 0] == noise[:-1, 0]).tolist()
        [True, True, False, True, True]

    Source:
        Raffin et al. 2021, smooth exploration for robotic reinforcement learning (arXiv:2005.05719).
    """
    _check(policy)
    num_steps = count(num_steps, "num_steps")
    if num_steps > np.iinfo(np.int32).max:
        raise ValueError(f"num_steps: expected less than 2**31, got {num_steps}. Resets end the noise in any case.")

    def init(key: Any, batch_shape: tuple[int, ...] = ()) -> Held:
        noise = _draw(policy, key, checks.batch_shape(batch_shape))
        return Held(noise, xp.to_int32(xp.zeros_like(noise[(..., *[0] * len(policy.noise_shape))], dtype=bool)))

    def step(state: Held, key: Any, resets: Any) -> tuple[Held, Any]:
        if not isinstance(state, Held):
            found = "an array" if hasattr(state, "dtype") else type(state).__name__
            raise TypeError(f"state: expected a gaussjax.exploration.Held, got {found}. {_REMAKE}")
        noise, age = state
        _check_state(noise, policy.noise_shape, "state.noise", tuple(age.shape))
        new = _flags(resets, age) | (age >= num_steps)

        def drawn() -> Any:
            fresh = _draw(policy, key, tuple(new.shape))
            return xp.where(_outer(new, len(policy.noise_shape)), fresh, noise)

        # The matrix of gSDE is large, so a step without a new one draws none. torch has no such branch under `vmap`.
        noise = drawn() if is_other(new) else jax.lax.cond(anywhere(jnp.any(new)), drawn, lambda: noise)
        return Held(noise, xp.where(new, xp.ones_like(age), age + 1)), noise

    return _record(policy, init, step)


def colored(policy: Policy, beta: float = 1.0) -> Exploration:
    """Noise whose power spectrum falls with the frequency f as 1/f^beta; pink noise for beta = 1.

    The noise is a sum of stationary autoregressive processes with time constants of 1, 2, …, 2048 steps. It needs no
    length of an episode. Its spectrum follows the power law within 20% for periods from 4 to 2048 steps. Below 4 steps
    it has more power: up to 1.15 times as much for beta = 1, and 2.4 times for beta = 2, like every random walk.

    Args:
        policy: The policy that takes the noise, of JAX or of torch.
        beta: Exponent, above 0 and at most 2.

    Returns:
        The source, whose state `(…, 13, act)` holds the processes.

    Raises:
        TypeError: `policy` is not a policy, or `beta` not a number.
        ValueError: `beta` is outside this range.

    Example:
        >>> import gaussjax
        >>> policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, gaussjax.spaces.Box(shape=(1,)))
        >>> exploration = colored(policy, beta=1.0)
        >>> inputs = jax.random.split(jax.random.key(1), 1000), jnp.zeros(1000, bool)
        >>> start = exploration.init(jax.random.key(0))
        >>> noise = jax.lax.scan(lambda state, at: exploration.step(state, *at), start, inputs)[1][:, 0]
        >>> bool(jnp.mean(jnp.abs(jnp.diff(noise))) < jnp.std(noise))
        True

    Source:
        Eberhard et al. 2023, pink noise is all you need: colored noise exploration in deep reinforcement learning.
    """
    _check(policy)
    check_beta(beta)
    decays, weights = _processes(float(beta))

    def init(key: Any, batch_shape: tuple[int, ...] = ()) -> Any:
        return _draw(policy, key, (*checks.batch_shape(batch_shape), len(decays)))

    def step(state: Any, key: Any, resets: Any) -> tuple[Any, Any]:
        axes = len(policy.noise_shape)
        _check_state(state, (len(decays), *policy.noise_shape), "state")
        batch = tuple(state.shape[: -1 - axes])
        new = _flags(resets, state[(..., *[0] * (1 + axes))])
        fresh = _draw(policy, key, (*batch, len(decays)))
        decay, spread = (
            xp.constant(column.reshape(*[1] * len(batch), -1, *[1] * axes), state)
            for column in (decays, np.sqrt(1.0 - decays**2))
        )
        # All processes have variance 1 at once, so at a reset the fresh numbers are a new start.
        state = xp.where(_outer(new, 1 + axes), fresh, decay * state + spread * fresh)
        # A sum in a fixed order has the same bits for every batch.
        noise = 0.0
        for i, weight in enumerate(weights.tolist()):
            noise = noise + weight * state[(..., i, *[slice(None)] * axes)]
        return state, noise

    return _record(policy, init, step)


def check_beta(beta: float) -> None:
    """Validates the exponent of coloured noise.

    Args:
        beta: The exponent.

    Raises:
        TypeError: `beta` is not a number.
        ValueError: `beta` is not above 0 and at most 2.

    Example:
        >>> check_beta(3.0)
        Traceback (most recent call last):
        ValueError: beta: expected a number above 0 and at most 2, got 3.0. Leave it out for the default.
    """
    check_number(number(beta, "beta"), "beta", "above 0 and at most 2", lambda beta: 0.0 < beta <= 2.0)


def _record(policy: Policy, init: Callable[..., Any], step: Callable[..., Any], lasts: bool = True) -> Exploration:
    init.__qualname__, step.__qualname__ = "exploration.init", "exploration.step"
    if isinstance(policy.noise, Compiled):
        return Exploration(Compiled(init, ("batch_shape",)), Compiled(step), lasts)
    return Exploration(init, step, lasts)


def _check(policy: Any) -> None:
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy: expected a gaussjax.Policy, got {type(policy).__name__}. Make one with a factory such as "
            f"gaussjax.gaussian."
        )


def _flags(resets: Any, like: Any = None) -> Any:
    """Returns resets; raises unless they are flags of the batch shape of `like`."""
    resets = as_array(resets, "resets")
    if str(resets.dtype).removeprefix("torch.") != "bool":
        raise TypeError(f"resets: expected bool, got {resets.dtype}. They are True where an episode starts.")
    if like is not None and tuple(resets.shape) != tuple(like.shape):
        raise ValueError(
            f"resets: expected shape {tuple(like.shape)}, one for each row of the state, got {tuple(resets.shape)}. "
            f"Make the state with init(key, resets.shape)."
        )
    # Environments of Gymnasium return flags of NumPy, which torch does not combine with tensors.
    return xp.constant(resets, like) != 0 if is_other(like) and not is_other(resets) else resets


def _check_state(array: Any, axes: tuple[int, ...], name: str, batch: tuple[int, ...] | None = None) -> None:
    """Raises ValueError unless an array of a state holds floating numbers in the shape `(*batch, *axes)`."""
    shape = tuple(array.shape) if hasattr(array, "dtype") else ()
    leading = shape[: max(0, len(shape) - len(axes))] if batch is None else batch
    if not shape or not xp.is_floating(array) or shape != (*leading, *axes):
        found = f"{array.dtype} of shape {shape}" if hasattr(array, "dtype") else type(array).__name__
        expected = ", ".join(map(str, ("...", *axes) if batch is None else (*batch, *axes)))
        raise ValueError(f"{name}: expected floating numbers of shape ({expected}), got {found}. {_REMAKE}")


def _outer(flags: Any, axes: int) -> Any:
    return flags[(..., *[None] * axes)]


def _draw(policy: Policy, key: Any, batch_shape: tuple[int, ...]) -> Any:
    """Standard normal numbers of shape `(*batch_shape, *policy.noise_shape)`."""
    return policy.noise(key, (*batch_shape, *policy.noise_shape[:-1]))


def _processes(beta: float) -> tuple[Any, Any]:
    """Coefficients of the autoregressive processes, and the factors with which they are summed to variance 1."""
    decays = np.array([0.0, *np.exp(-(0.5 ** np.arange(_OCTAVES)))], np.float32).astype(np.float64)
    frequencies = np.geomspace(2.0 ** (1 - _OCTAVES), 0.5, 400)
    cosines = np.cos(2.0 * np.pi * frequencies)[:, None]
    spectra = (1.0 - decays**2) / (1.0 - 2.0 * decays * cosines + decays**2)
    # Shares of the variance that are positive and make the spectrum times f^beta close to 1 at all frequencies. The
    # iteration is that of Richardson and Lucy, which keeps positive numbers positive.
    relative = spectra * frequencies[:, None] ** beta
    shares = 1.0 / relative.mean(axis=0)
    for _ in range(_ITERATIONS):
        shares *= (relative / (relative @ shares)[:, None]).mean(axis=0) / relative.mean(axis=0)
    # Rounded, so that the last digits of matrix products on different machines make no difference.
    shares = np.round(shares / shares.sum(), 7)
    return decays, np.sqrt(shares / shares.sum())

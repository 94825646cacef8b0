"""The `Algorithm` record that PPO, SAC and behavioural cloning return, and the functions that they share."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from gaussjax import envs, exploration, networks, normalize, spaces
from gaussjax.core.choices import choose
from gaussjax.core.compiled import Compiled
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.policy import Policy, gaussian, squashed_gaussian, truncated_gaussian

# Largest int32 number, at which the counters of steps stay.
LAST_STEP = 2**31 - 1
_LARGEST = float(np.finfo(np.float32).max)
# Types of an option by its annotation, and the words for them in an error.
_TYPES: dict[str, tuple[Any, str]] = {
    "int": (numbers.Integral, "a whole number"),
    "float": (numbers.Real, "a number"),
    "bool": ((bool, np.bool_), "True or False"),
}
EXPLORATIONS = ("white", "held", "colored")
# Kinds of policy that an algorithm makes by name.
KINDS = {kind.__name__: kind for kind in (gaussian, squashed_gaussian, truncated_gaussian)}
# Recurrent networks that an algorithm makes by name.
CELLS: dict[str, Any] = {
    cell.__name__.lower(): cell for cell in (networks.RNN, networks.GRU, networks.LSTM, networks.MinGRU)
}


class Algorithm(NamedTuple):
    """A training loop bound to its environments or its dataset.

    Attributes:
        init: `(key) -> state`. Consumes the key and resets the environments.
        step: `(state) -> (state, metrics)`: one update of PPO with its rollout, `num_steps` environment
            steps of SAC with their gradient steps, or one epoch of cloning. Metrics are a dict of scalars. A mean
            over nothing is 0, such as `episode_return` before the first episode has ended.
        policy: The policy that is trained; its parameters are `state.params`.
        runner: The `rollout.Runner` of host environments, whose state is not part of `state`; otherwise None.
        on_policy: True if all actions of a step come from the parameters of its input state.
        in_place: True if a step donates the buffers of its input state.
        random_steps: Environment steps at the start whose actions are uniform in the Box and ignore the policy.
        normalizes: True if the policy gets observations normalised by `state.observation_statistics`.
        done: `(state) -> bool`: True if further steps are pointless, as after the `patience` of cloning.
    """

    init: Callable[[Any], Any]
    step: Callable[[Any], tuple[Any, dict[str, Any]]]
    policy: Policy
    runner: Any = None
    on_policy: bool = False
    in_place: bool = False
    random_steps: int = 0
    normalizes: bool = False
    done: Callable[[Any], Any] = lambda state: False


class Standing(NamedTuple):
    """Inputs of the policy at the start of the next rollout on the host.

    Attributes:
        observations: Observations to act on next.
        resets: Flags of observations that start an episode.
        carry: Recurrent state of the policy, or `()`.
        exploration: State of noise that lasts, or `()`.
    """

    observations: Any
    resets: Any
    carry: Any
    exploration: Any = ()


def check_options(config: Any, counts: Sequence[str], positive: Sequence[str], fractions: Sequence[str] = ()) -> None:
    """Raises unless all options have their types and are finite, and some are in range.

    Raises:
        TypeError: An option annotated as int, float, bool or tuple[int, ...] has another type.
        ValueError: A number is not finite in float32, one of `counts` or a number in a tuple is below 1, one of
            `positive` is not above 0, or one of `fractions` is outside [0, 1].
    """
    for field in dataclasses.fields(config):
        annotation, *optional = str(field.type).split(" | ")
        if optional and getattr(config, field.name) is None:
            continue
        name: str = field.name
        value: Any = getattr(config, name)
        _check_type(name, value, annotation, field.default)
        if isinstance(value, (float, np.floating)) and not abs(float(value)) <= _LARGEST:
            raise ValueError(f"{name}: expected a finite number of float32, got {value}.")
        limited: Any = value if annotation == "tuple[int, ...]" else [value] if name in counts else []
        for count in limited:
            if not count >= 1:
                raise ValueError(f"{name}: expected at least 1, got {count}.")
            if count > LAST_STEP:
                raise ValueError(f"{name}: expected less than 2**31, as steps are counted in 32 bits, got {count}.")
        if name in positive and not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}.")
        if name in fractions and not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, got {value}.")


def _check_type(name: str, value: Any, annotation: str, default: Any) -> None:
    values, words = [value], ""
    if annotation == "tuple[int, ...]":
        annotation, words = "int", "a tuple of whole numbers"
        values = value if isinstance(value, (tuple, list)) else [None]
    if annotation not in _TYPES:
        return
    types, word = _TYPES[annotation]
    # Python counts True and False as whole numbers.
    if not all(isinstance(entry, types) and isinstance(entry, bool) <= (annotation == "bool") for entry in values):
        raise TypeError(f"{name}: expected {words or word}, got {value!r}. The default is {default!r}.")


def check_argument(name: str, value: Any, kind: type, repair: str) -> None:
    """Raises TypeError, which ends with the sentence `repair`, unless an argument has the public type `kind`."""
    if not isinstance(value, kind):
        module = kind.__module__.removesuffix(".config").removesuffix(".policy").removesuffix(".episodes")
        raise TypeError(f"{name}: expected a {module}.{kind.__name__}, got {type(value).__name__}. {repair}")


def check_reduction(policy: Policy) -> None:
    """Raises ValueError for a policy whose log-densities are not summed over the action axis."""
    if (reduction := dict(policy.spec.options)["reduction"]) != "sum":
        raise ValueError(
            f"policy: expected log-densities summed over the actions, got reduction={reduction!r}. Use reduction='sum'."
        )


def check_exploration(options: Any) -> None:
    """Raises ValueError unless `exploration`, `hold` and `beta` of a config or a command name one source of noise."""
    name, hold, beta = options.exploration, options.hold, options.beta
    if name is None:
        name = "white" if hold is None else "held"
    if name not in EXPLORATIONS:
        choose(dict.fromkeys(EXPLORATIONS), name, "exploration")
    if name == "held" and hold is None:
        raise ValueError("hold: expected a number of steps for exploration='held', got None. Set one, such as hold=8.")
    if name != "held" and hold is not None:
        raise ValueError(
            f"hold: expected None for exploration={name!r}, which changes at each step, got {hold}. Leave one out."
        )
    if beta is not None:
        if hold is not None:
            raise ValueError(f"beta: expected None for noise with hold={hold}, got {beta}. Leave one out.")
        if name != "colored":
            raise ValueError(
                f"beta: expected None without exploration='colored', got {beta}. Leave it out, or set "
                f"exploration='colored'."
            )
        exploration.check_beta(beta)


def exploration_for(options: Any, policy: Policy, given: exploration.Exploration | None) -> Any:
    """The source of noise: `given`, or the source that the options name; None for white noise by name."""
    if given is not None:
        check_argument("exploration", given, exploration.Exploration, "Make one with gaussjax.exploration.held.")
        if (options.exploration, options.hold) != (None, None):
            raise ValueError(
                "exploration: expected one source of noise, got an argument and options of the config. Leave one out."
            )
    elif options.hold is not None:
        given = exploration.held(policy, options.hold)
    elif options.exploration == "colored":
        given = exploration.colored(policy, options.beta or 1.0)
    return given


def check_memory(policy: Any, config: Any) -> None:
    """Raises ValueError if the parameters and the experience of a training cannot fit into the memory."""
    leaves = jax.tree.leaves(jax.eval_shape(policy.init, jax.random.key(0)))
    # The parameters have a gradient and two moments of Adam.
    parameters = 4 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    observed, acted = policy.spec.observation_space, policy.spec.action_space
    pixels = getattr(observed, "dtype", None) == np.uint8
    row = 2 * spaces.size(observed) * (1 if pixels else 4) + 4 * (spaces.size(acted) + 1)
    rows = getattr(config, "buffer_size", 0) or getattr(config, "num_envs", 0) * getattr(config, "num_steps", 0)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    sizes = {"hidden_sizes": parameters, "buffer_size" if hasattr(config, "buffer_size") else "num_envs": rows * row}
    if sum(sizes.values()) > memory:
        name = max(sizes, key=lambda name: sizes[name])
        raise ValueError(
            f"{name}: expected a training that fits into the {memory / 1e9:,.0f} GB of memory of this machine, got at "
            f"least {sum(sizes.values()) / 1e9:,.0f} GB. Choose a smaller number."
        )


def without_pixels(config: Any, policy: Policy) -> Any:
    """Returns the config, with `normalize_observations` switched off if the policy's network scales its pixels."""
    normalizes = config.normalize_observations and statistics_for(policy, True)
    return config if normalizes else dataclasses.replace(config, normalize_observations=False)


def observation_keys(space: Any, config: Any) -> dict[str, Any]:
    """The config's `actor_keys` and `critic_keys` for a space; None means all entries.

    By default the actor gets `state` and the critic `privileged_state`, in a space with both of them.
    """
    space = spaces.as_space(space)
    names = {name for name, _ in space.items} if isinstance(space, spaces.Dict) else set()
    defaults = (("state",), ("privileged_state",)) if {"state", "privileged_state"} <= names else (None, None)
    chosen = (config.actor_keys or defaults[0]), (getattr(config, "critic_keys", None) or defaults[1])
    return dict(zip(("actor_keys", "critic_keys"), chosen, strict=True))


def check_num_envs(environments: Any, num_envs: int, share: int) -> None:
    """Raises ValueError unless this process has `share` environments, its part of the total `num_envs`."""
    if environments.num_envs != share:
        part = "" if share == num_envs else f"{share} of the "
        raise ValueError(
            f"environments: expected {part}num_envs = {num_envs}, got {environments.num_envs}. Make the numbers equal."
        )


def policy_for(
    environments: Any, config: Any, policy: Policy | None, config_type: type, make_policy: Callable[..., Policy]
) -> Policy:
    """Validates the arguments of `make`; returns the policy to train, from `make_policy` if `policy` is None."""
    check_argument("config", config, config_type, "Call make(environments, config, policy).")
    both = spaces_of(environments)
    if policy is None:
        policy = make_policy(*both, config)
    check_argument("policy", policy, Policy, "Make one with a factory such as gaussjax.gaussian.")
    if not isinstance(policy.noise, Compiled):
        raise TypeError("policy: expected a policy of JAX, got one of torch. Make it with gaussjax.gaussian.")
    check_reduction(policy)
    options = dict(policy.spec.options)
    if options.get("clip_actions") and options.get("clipped_log_prob") == "density":
        raise ValueError(
            'policy: expected clipped_log_prob="unclipped" or "censored" of a policy that clips its actions, got '
            '"density". The density at the bound is not the probability of a clipped action, so the gradient would '
            'be biased. Make the policy with clipped_log_prob="unclipped".'
        )
    return policy


def spaces_of(environments: Any) -> tuple[Any, Any]:
    """Spaces of an observation and an action of vector environments or of a JAX environment; raises for others."""
    if isinstance(environments, envs.Environment):
        return environments.observation_space, environments.action_space
    if not hasattr(environments, "single_action_space"):
        raise TypeError(
            f"environments: expected a Gymnasium vector environment or a gaussjax.envs.Environment, got "
            f"{type(environments).__name__}. Make them with gaussjax.envs.make_vector."
        )
    return environments.single_observation_space, environments.single_action_space


def check_spaces(environments: Any, policy: Policy) -> None:
    """Raises ValueError unless the policy fits the spaces of the environments; bounds of observations may differ."""
    found = spaces_of(environments)
    observed, acted = spaces.as_space(found[0]), spaces.action_box(found[1])

    def form(space: spaces.Space) -> Any:
        structure = jax.eval_shape(lambda: spaces.zeros(space, (1,)))
        return jax.tree.map(lambda leaf: leaf.shape, structure), spaces.size(space)

    def bounds(box: spaces.Box) -> list[list[float]]:
        # A bound may be written as a float32 number or as a longer one.
        with np.errstate(over="ignore"):
            return [side.astype(np.float32).tolist() for side in spaces.bounds(box)]

    ours = policy.spec.observation_space, policy.spec.action_space
    # A policy reshapes flat vectors for a Box of several axes.
    flat = [form(spaces.Box(shape=(spaces.size(ours[0]),)))] if isinstance(ours[0], spaces.Box) else []
    for name, expected, space, same in (
        ("observation", observed, ours[0], form(observed) in [form(ours[0]), *flat]),
        ("action", acted, ours[1], bounds(acted) == bounds(ours[1])),
    ):
        if not same:
            raise ValueError(
                f"policy: expected the {name} space of the environments, {expected}, got {space}. Make the policy "
                f"with the spaces of the environments, or wrap the environments."
            )


def without_axis(policy: Policy, log_prob: Array) -> Array:
    """Log-densities with the shape of the batch; drops the last axis that a policy with `keepdims=True` keeps."""
    return log_prob[..., 0] if dict(policy.spec.options)["keepdims"] else log_prob


def first_statistics(observations: Any) -> normalize.Normalizer:
    """Statistics before the first of observations like this example; pixels within a dict and integers have none."""
    nested = not hasattr(observations, "dtype")

    def shape(leaf: Any) -> tuple[int, ...] | None:
        is_normalized = jnp.issubdtype(leaf.dtype, jnp.floating) or (leaf.dtype == np.uint8 and not nested)
        return tuple(leaf.shape) if is_normalized else None

    return normalize.init(jax.tree.map(shape, observations))


def normalized(config: Any, statistics: normalize.Normalizer, observations: Any) -> Any:
    """Observations for the policy and the critics, normalized if `config.normalize_observations` is true."""
    return normalize.apply(statistics, observations) if config.normalize_observations else observations


def promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer with JAX's standard dtype promotion, whatever the option `jax_numpy_dtype_promotion` says."""

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        # Adam of optax 0.2.8 raises a float to the power of its int32 counter, which strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def counted(steps: Any, more: int) -> Any:
    """Adds to a counter of steps, an int or an int32 scalar, which stays at 2³¹ - 1 instead of wrapping around."""
    return min(steps + more, LAST_STEP) if isinstance(steps, int) else steps + jnp.minimum(more, LAST_STEP - steps)


def environment_seed(key: Array) -> int:
    """A seed of 63 bits for the environments of the host, so that no two trainings share a seed; consumes the key."""
    high, low = np.asarray(jax.random.bits(key, (2,), jnp.uint32)).tolist()
    return (high << 32 | low) >> 1

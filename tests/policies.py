"""Table of the policies that the contract tests cover, and functions that make data for each policy.

A new kind of policy, network or option needs one more row in `TABLE`.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import gaussjax
from gaussjax.networks import CNN, GRU, LSTM, MLP, RNN, ActorCritic, Graph, MinGRU
from gaussjax.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple


class Case(NamedTuple):
    """A row of the table: the arguments of a policy factory, and the tests that apply to the policy.

    Attributes:
        factory: `gaussjax.gaussian` or another factory.
        network: A small network.
        observation_space: A value that `gaussjax.spaces.as_space` accepts.
        action_space: A Box.
        options: Options of the factory.
        reductions: Reductions that the kind of policy supports.
        variant: True if another row has the same kind of policy. Only `make test-full` then runs the most
            expensive tests.
    """

    factory: Callable[..., gaussjax.Policy]
    network: Any
    observation_space: Any
    action_space: Box
    options: Mapping[str, Any] = MappingProxyType({})
    reductions: tuple[str, ...] = ("sum", "mean", "prod", "none")
    variant: bool = False


class OwnModule(nn.Module):
    """A user's own Flax module, which does not use gaussjax."""

    num_actions: int | None = None

    @nn.compact
    def __call__(self, observations: Any) -> tuple[Any, Any, dict[str, Any]]:
        features = nn.tanh(nn.Dense(8)(observations))
        log_std = self.param("log_std", nn.initializers.constant(-0.5), (self.num_actions,))
        return nn.Dense(self.num_actions)(features), log_std, {"features": features}


class OwnExploration(nn.Module):
    """A user's own Flax module with the noise of gSDE."""

    num_actions: int | None = None

    @nn.compact
    def __call__(self, observations: Any) -> tuple[Any, Any, dict[str, Any]]:
        features = nn.tanh(nn.Dense(8)(observations))
        log_std = self.param("log_std", nn.initializers.zeros, (8, self.num_actions))
        log_std, weights = gaussjax.networks.gsde(features, log_std, learn_features=True, std_floor=1.0)
        return nn.Dense(self.num_actions)(features), log_std, {"gsde": weights}


class PlainNetwork:
    """A network that is not a Flax module and has only the methods `init` and `apply`."""

    def init(self, key: Any, observations: Any) -> dict[str, Any]:
        return {"weights": jax.random.normal(key, (observations.shape[-1], 2)), "log_std": jnp.zeros(2)}

    def apply(self, params: Any, observations: Any) -> tuple[Any, Any, dict[str, Any]]:
        return observations @ params["weights"], params["log_std"], {}


UNIT = Box(-1.0, 1.0, (2,))
NARROW = Box((-0.25, -np.inf), (np.inf, 0.25), (2,))
NESTED = Dict(
    (
        ("camera", Box(0.0, 255.0, (2, 2), "uint8")),
        ("gear", Discrete(3, start=1)),
        ("rest", Tuple((Box(shape=(3,)), MultiDiscrete((2, 3))))),
    )
)


def _variant(network: Any, observations: Any = 3, actions: Box = UNIT, **options: Any) -> Case:
    return Case(gaussjax.gaussian, network, observations, actions, options, variant=True)


GRAPH = Graph(
    nodes=[
        {"name": "seen", "layers": [{"conv": {"features": 3, "kernel": 3, "stride": 2}}, "relu", "flatten"]},
        {"name": "both", "input": "seen", "layers": [8, "tanh"]},
    ],
    value="both",
)
SMALL_CNN = CNN(channels=(4,), kernels=(3,), strides=(2,), sizes=(8,), activation="tanh")
STATE_STD = MLP((8, 8), std="state", log_std_bounds=(-2.0, 2.0), norm="layer")
FIXED_STD = MLP((8, 8), std="fixed", initial_log_std=-0.5)
# With parameters of zero the features are zero too, and the standard deviation is this floor.
EXPLORING = MLP((8, 8), std="gsde", learn_features=True, std_floor=1.0)
EXPLORING_GRU = GRU(
    hidden_size=6,
    sizes=(8,),
    std="gsde",
    std_activation="expln",
    full_std=False,
    learn_features=True,
    std_floor=1.0,
)
TWO_MEMORIES = ActorCritic(LSTM(hidden_size=4, sizes=()), critic=GRU(hidden_size=4, sizes=()))
_clipped = functools.partial(_variant, MLP((8, 8)), actions=NARROW, clip_actions=True)
TABLE: dict[str, Case] = {
    "gaussian": Case(gaussjax.gaussian, MLP((8, 8)), 3, UNIT),
    "gaussian-clipped": _clipped(clip_mean_actions=True),
    "gaussian-unclipped-density": _clipped(clipped_log_prob="unclipped"),
    "gaussian-censored": _clipped(clipped_log_prob="censored"),
    "gaussian-state-std": _variant(STATE_STD, clip_log_std=False),
    "gaussian-std-activation": _variant(MLP((8, 8), std="state", std_activation="softplus(std) + 0.001")),
    "gaussian-gsde": _variant(EXPLORING),
    "gaussian-gsde-own-module": _variant(OwnExploration()),
    "gaussian-actor-critic": _variant(ActorCritic(FIXED_STD, sizes=(8,))),
    "gaussian-nested-spaces": _variant(MLP((8, 8)), NESTED, Box(-1.0, 1.0, (2, 2))),
    "gaussian-own-module": _variant(OwnModule()),
    "gaussian-plain-network": _variant(PlainNetwork()),
    "gaussian-cnn": _variant(SMALL_CNN, Box(0.0, 255.0, (6, 6, 2), "uint8")),
    "gaussian-graph": _variant(GRAPH, Box(shape=(6, 6, 2))),
    "gaussian-rnn": _variant(RNN(hidden_size=6, sizes=(8,))),
    "gaussian-gru": _variant(GRU(hidden_size=6, sizes=(8,))),
    "gaussian-lstm": Case(gaussjax.gaussian, LSTM(hidden_size=6, num_layers=2, sizes=(8,)), 3, UNIT),
    "gaussian-min-gru": _variant(MinGRU(hidden_size=6, num_layers=2, sizes=(8,))),
    "gaussian-recurrent-actor-critic": _variant(TWO_MEMORIES),
    "squashed": Case(gaussjax.squashed_gaussian, MLP((8, 8)), 3, Box((-1.0, 0.0), (1.0, 3.0), (2,))),
    "truncated": Case(gaussjax.truncated_gaussian, MLP((8, 8)), 3, Box((-1.5, -np.inf), (1.5, 1.25), (2,))),
    "squashed-gsde": Case(
        gaussjax.squashed_gaussian,
        ActorCritic(EXPLORING_GRU, sizes=(8,)),
        3,
        UNIT,
        variant=True,
    ),
    "multivariate": Case(gaussjax.multivariate_gaussian, MLP((8, 8)), 3, UNIT),
}


def build(name: str, **options: Any) -> gaussjax.Policy:
    """Returns the policy of a row, with some options changed."""
    case = TABLE[name]
    return case.factory(case.network, case.observation_space, case.action_space, **{**case.options, **options})


@functools.cache
def make(name: str, **options: Any) -> tuple[gaussjax.Policy, Any]:
    """Returns the policy of a row, with some options changed, and random parameters; cached for all tests of a file."""
    policy = build(name, **options)
    return policy, random_params(policy)


def random_params(policy: gaussjax.Policy, seed: int = 0) -> Any:
    """Returns random parameters as NumPy arrays, biases too; `policy.init` would compile a program for each policy."""
    generator = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        values = generator.normal(size=leaf.shape)
        values = 0.1 * values if len(leaf.shape) < 2 else values / np.sqrt(np.prod(leaf.shape[:-1]))
        # The factor of a norm.
        return (values + ("'scale'" in jax.tree_util.keystr(path[-1:]))).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(policy.init, jax.random.key(0)))


def size(policy: gaussjax.Policy) -> int:
    """Returns the number of dimensions of an action."""
    return gaussjax.spaces.size(policy.spec.action_space)


def observations(policy: gaussjax.Policy, batch_shape: tuple[int, ...] = (), seed: int = 0) -> Any:
    """Returns random elements of the policy's observation space as NumPy arrays, like an environment."""
    return _sample(policy.spec.observation_space, batch_shape, np.random.default_rng(seed))


def noise(policy: gaussjax.Policy, batch_shape: tuple[int, ...] = (), seed: int = 0) -> np.ndarray:
    """Returns standard normal noise `(*batch_shape, *policy.noise_shape)` for `policy.act`."""
    return np.random.default_rng(seed).normal(size=(*batch_shape, *policy.noise_shape)).astype(np.float32)


def actions(policy: gaussjax.Policy, batch_shape: tuple[int, ...] = (), seed: int = 0) -> np.ndarray:
    """Returns standard normal numbers `(*batch_shape, act)`."""
    return np.random.default_rng(seed).normal(size=(*batch_shape, size(policy))).astype(np.float32)


def as_type(tree: Any, dtype: Any) -> Any:
    """Returns the tree with its floating leaves cast to another dtype."""

    def convert(leaf: Any) -> Any:
        return jnp.asarray(leaf, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.asarray(leaf)

    return jax.tree.map(convert, tree)


def scoring(policy: gaussjax.Policy, result: gaussjax.ActOutput) -> dict[str, Any]:
    """Returns the actions of `act` as an argument of `evaluate`: raw actions if the policy scores only those."""
    if dict(policy.spec.options).get("clipped_log_prob") == "unclipped":
        return {"raw_actions": result.outputs["raw_actions"]}
    return {"taken_actions": result.actions}


def only_noise(params: Any) -> Any:
    """Returns parameters of zero: with mean 0 and std 1 the raw actions equal the noise, bit for bit."""
    return jax.tree.map(np.zeros_like, params)


def _sample(space: Space, batch_shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    match space:
        case Box():
            shape = (*batch_shape, *space.shape)
            if np.issubdtype(space.dtype, np.integer):
                return generator.integers(0, 4, shape).astype(space.dtype)
            return generator.normal(size=shape).astype(np.float32)
        case Discrete():
            return generator.integers(space.start, space.start + space.n, batch_shape, dtype=np.int32)
        case MultiDiscrete():
            return generator.integers(0, space.nvec, (*batch_shape, len(space.nvec)), dtype=np.int32)
        case Dict():
            return {key: _sample(inner, batch_shape, generator) for key, inner in space.items}
        case Tuple():
            return tuple(_sample(inner, batch_shape, generator) for inner in space.items)

"""PPO of purejaxrl for continuous actions, from a copy of its repository in `.peers/sources/purejaxrl`.

Its environment wrapper is for brax, its network is 256 wide and its actions end at 1: gymnax's Pendulum, the asked
width and Pendulum's bounds replace them. `navix`, which it imports for other environments, is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import distrax
import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
from flax.linen.initializers import constant, orthogonal

from benchmarks import settings
from benchmarks.contenders.gymnax_pendulum import returns_of
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built

__all__ = ["curve", "hardware", "training"]

_SOURCE = Path(".peers/sources/purejaxrl/purejaxrl").absolute()
if not _SOURCE.is_dir():
    raise ImportError(f"no {_SOURCE}: git clone https://github.com/luchris429/purejaxrl .peers/sources/purejaxrl")
sys.path.insert(0, str(_SOURCE))
for absent in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"):
    sys.modules[absent] = ModuleType(absent)
sys.modules["brax"].envs = sys.modules["brax.envs"]  # pyright: ignore[reportAttributeAccessIssue]
for name in ("EpisodeWrapper", "AutoResetWrapper"):
    setattr(sys.modules["brax.envs.wrappers.training"], name, None)
import ppo_continuous_action as script  # noqa: E402  # pyright: ignore[reportMissingImports]


class _Network(nn.Module):
    """The script's network with another width."""

    action_dim: int
    activation: str = "tanh"
    width: int = 64

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[distrax.MultivariateNormalDiag, jax.Array]:
        def layers(x: jax.Array, outputs: int, scale: float) -> jax.Array:
            for _ in range(2):
                x = nn.tanh(nn.Dense(self.width, kernel_init=orthogonal(2.0**0.5), bias_init=constant(0.0))(x))
            return nn.Dense(outputs, kernel_init=orthogonal(scale), bias_init=constant(0.0))(x)

        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        actor = distrax.MultivariateNormalDiag(layers(x, self.action_dim, 0.01), jnp.exp(log_std))
        return actor, jnp.squeeze(layers(x, 1, 1.0), axis=-1)


class _Environment:
    """gymnax's environment with its parameters, in the place of the script's wrapper of brax."""

    def __init__(self, name: str):
        made, settings = gymnax.make(name)
        self.reset = lambda key, _: made.reset(key, settings)
        self.step = lambda key, state, action, _: made.step(key, state, action, settings)
        self.observation_space = lambda _: made.observation_space(settings)
        self.action_space = lambda _: made.action_space(settings)


script.ActorCritic = _Network
script.BraxGymnaxWrapper = _Environment
script.ClipAction = partial(script.ClipAction, low=-2.0, high=2.0)


def _config(of: str, contender: str, updates: int) -> dict[str, Any]:
    found = settings.arguments(of, contender)
    return {
        "LR": found["learning_rate"],
        "NUM_ENVS": found["num_envs"],
        "NUM_STEPS": found["num_steps"],
        "TOTAL_TIMESTEPS": updates * found["num_envs"] * found["num_steps"],
        "UPDATE_EPOCHS": found["num_epochs"],
        "NUM_MINIBATCHES": found["num_minibatches"],
        "GAMMA": 0.99,
        "GAE_LAMBDA": 0.95,
        "CLIP_EPS": 0.2,
        "ENT_COEF": 0.0,
        "VF_COEF": 0.5,
        "MAX_GRAD_NORM": 0.5,
        "ACTIVATION": "tanh",
        "ENV_NAME": "Pendulum-v1",
        "ANNEAL_LR": False,
        "NORMALIZE_ENV": found["normalize"],
        "DEBUG": False,
    }


def training(device: str, of: str, contender: str) -> Built:
    """A whole training of a few updates, because the script has no shorter program. It begins with a reset."""
    train = jax.jit(script.make_train(_config(of, contender, settings.CASES[of].calls)))
    key = jax.random.key(0)
    return Built(lambda: jax.block_until_ready(train(key)["runner_state"]), [0.0])


def curve(of: str, contender: str, seed: int) -> Iterator[tuple[int, list[float]]]:
    """Returns at equally many updates between two points, each from a training of its own with the same seed.

    A longer training begins with the shorter ones, because the step size is constant.
    """
    case = settings.CASES[of]

    def act(held: Any, observation: jax.Array) -> jax.Array:
        params, mean, variance = held
        actor, _ = _Network(1).apply(params, (observation - mean) / jnp.sqrt(variance + 1e-8))
        return jnp.clip(actor.mean(), -2.0, 2.0)

    for point in range(1, case.points + 1):
        updates = point * case.updates // case.points
        train = jax.jit(script.make_train(_config(of, contender, updates)))
        state = train(jax.random.key(seed))["runner_state"]
        seen = state[1].env_state
        held = state[0].params, seen.mean[0], seen.var[0]
        yield updates * case.update_steps, returns_of(act, held, case.episodes, seed).tolist()

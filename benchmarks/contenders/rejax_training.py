"""PPO of rejax, on gymnax's Pendulum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import rejax

from benchmarks import settings
from benchmarks.contenders import compiled_training
from benchmarks.contenders.gymnax_pendulum import returns_of
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built

__all__ = ["compiled", "compiling", "curve", "hardware", "stated", "training"]


def compiled(device: str, **case: int) -> Built:
    """Rollouts and updates of PPO on Pendulum in one compiled program."""
    return compiled_training.running(lambda: _programs(**case))


def compiling(device: str, **case: int) -> Built:
    """Compilation of the program of `compiled` and of the program of `init`."""
    return compiled_training.compiling(lambda: _programs(**case))


def stated(device: str, **case: int) -> Built:
    """Memory of the program of `compiled`, as XLA states it."""
    return compiled_training.stated(lambda: _programs(**case))


def training(device: str, of: str, contender: str) -> Built:
    """Rollouts and updates of PPO on Pendulum, with the settings of a case."""
    found = _asked(of, contender)
    return compiled_training.running(lambda: _programs(updates=settings.CASES[of].calls, **found))


def curve(of: str, contender: str, seed: int) -> Iterator[tuple[int, list[float]]]:
    """Returns at equally many updates between two points."""
    case = settings.CASES[of]
    algorithm, updates = _algorithm(**_asked(of, contender)), case.updates // case.points
    train = jax.jit(lambda state: jax.lax.fori_loop(0, updates, lambda _, s: algorithm.train_iteration(s), state))

    def act(state: Any, observation: jax.Array) -> jax.Array:
        if algorithm.normalize_observations:
            observation = algorithm.normalize_obs(state.obs_rms_state, observation)
        actor = algorithm.actor.apply(state.actor_ts.params, observation[None], method="_action_dist")
        return jnp.clip(actor.mean()[0], -2.0, 2.0)

    state = jax.jit(algorithm.init_state)(jax.random.key(seed))
    for point in range(case.points + 1):
        yield int(state.global_step), returns_of(act, state, case.episodes, seed).tolist()
        if point < case.points:
            state = train(state)


def _asked(of: str, contender: str) -> dict[str, Any]:
    found = settings.arguments(of, contender)
    normalize = found.pop("normalize")
    return {**found, "normalize_observations": normalize, "normalize_rewards": normalize}


def _algorithm(**options: Any) -> Any:
    return rejax.PPO.create(
        env="Pendulum-v1", agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"}, **options
    )


def _programs(updates: int, **options: Any) -> tuple[Any, Any]:
    algorithm = _algorithm(**options)

    def train(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (algorithm.train_iteration(s), None), state, None, length=updates)

    return algorithm.init_state, train

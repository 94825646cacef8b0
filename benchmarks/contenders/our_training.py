"""Training with gaussjax."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks import inputs, settings
from benchmarks.contenders import compiled_training
from benchmarks.contenders.with_jax import hardware
from benchmarks.worker import Built
from gaussjax import envs, normalize, rollout, spaces
from gaussjax.cli.options import EVALUATION_SEED
from gaussjax.data import Episodes
from gaussjax.networks.actor_critic import statistics_for
from gaussjax.training import bc as cloning_algorithm
from gaussjax.training import ppo as ppo_algorithm
from gaussjax.training import sac as sac_algorithm

__all__ = ["cloning", "compiled", "compiling", "curve", "hardware", "ppo", "sac", "seeds", "stated", "training"]


def ppo(device: str, environment: str, num_envs: int, num_steps: int, batch_size: int, num_epochs: int) -> Built:
    """One rollout and its update."""
    config = ppo_algorithm.Config(num_envs=num_envs, num_steps=num_steps, batch_size=batch_size, num_epochs=num_epochs)
    return _stepping(ppo_algorithm.make(envs.make_vector(environment, num_envs), config))


def sac(device: str, environment: str, num_steps: int, batch_size: int, learning_starts: int, **more: Any) -> Built:
    """Steps of one environment, each with its gradient step."""
    config = sac_algorithm.Config(num_steps=num_steps, batch_size=batch_size, learning_starts=learning_starts, **more)
    built = _stepping(sac_algorithm.make(envs.make_vector(environment, 1), config))
    # Skip the random steps; the first gradient step is in the call after them.
    for _ in range(-(-learning_starts // num_steps)):
        built.call()
    return built


def cloning(device: str, rows: int, observations: int, actions: int, width: int, batch_size: int) -> Built:
    """One epoch."""
    plain: dict[str, Any] = {"std": "parameter", "variance_weight": 0.0, "normalize_observations": False}
    config = cloning_algorithm.Config(batch_size=batch_size, hidden_sizes=(width, width), **plain)
    policy = cloning_algorithm.make_policy(observations, spaces.Box(-1.0, 1.0, (actions,)), config)
    return _stepping(cloning_algorithm.make(Episodes(*inputs.recorded(rows, observations, actions)), policy, config))


def _stepping(algorithm: Any) -> Built:
    state = algorithm.init(jax.random.key(0))

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(algorithm.step(state))

    return Built(call, [0.0])


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
    """Rollouts and updates of PPO in one compiled program, with the settings of a case."""
    found, updates = settings.arguments(of, contender), settings.CASES[of].calls

    def programs() -> tuple[Any, Any]:
        config = ppo_algorithm.Config(**found["config"])
        loop = ppo_algorithm.make(_environment(found["environment"], **found["options"]), config)
        return loop.init, lambda state: jax.lax.scan(lambda s, _: loop.step(s), state, None, length=updates)

    return compiled_training.running(programs)


def _environment(name: str, reward_scaling: float = 1.0, **options: Any) -> envs.Environment:
    environment = envs.make(name, **options)

    def step(state: Any, action: Any) -> envs.Step:
        stepped = environment.step(state, action)
        return stepped._replace(reward=reward_scaling * stepped.reward)

    return environment if reward_scaling == 1.0 else environment._replace(step=step)


def seeds(device: str, of: str, number: int, vmapped: bool) -> Built:
    """One update of PPO for several seeds, in one program or one after the other."""
    found = settings.SEEDS[of]
    config = ppo_algorithm.Config(**found["config"])
    loop = ppo_algorithm.make(envs.make(found["environment"], **found["options"]), config)
    init, step = (jax.jit(jax.vmap(part) if vmapped else part) for part in (loop.init, loop.step))
    keys = jax.random.split(jax.random.key(0), number)
    states = [init(keys)] if vmapped else [init(key) for key in keys]

    def call() -> None:
        for index, state in enumerate(states):
            states[index], _ = jax.block_until_ready(step(state))

    return Built(call, [0.0])


def _programs(num_envs: int, num_steps: int, num_minibatches: int, num_epochs: int, updates: int) -> tuple[Any, Any]:
    from gymnasium.envs.phys2d.pendulum import PendulumFunctional

    config = ppo_algorithm.Config(
        num_envs=num_envs,
        num_steps=num_steps,
        batch_size=num_envs * num_steps // num_minibatches,
        num_epochs=num_epochs,
        normalize_observations=False,
        normalize_rewards=False,
    )
    algorithm = ppo_algorithm.make(envs.from_functional(PendulumFunctional(), max_steps=200), config)
    # Keep the metrics, as a real training does; rejax has none.
    return algorithm.init, lambda state: jax.lax.scan(lambda s, _: algorithm.step(s), state, None, length=updates)


def curve(of: str, contender: str, seed: int) -> Iterator[tuple[int, list[float]]]:
    """Returns of whole episodes at equally many updates between two points, with the settings of a case."""
    case, found = settings.CASES[of], settings.arguments(of, contender)
    module = {"ppo": ppo_algorithm, "sac": sac_algorithm}[found.pop("algorithm", "ppo")]
    environment = _environment(found["environment"], **found["options"])
    # A training may cut its episodes short and scale its rewards, an evaluation does not.
    whole = _environment(found["environment"], **{**found["options"], "max_steps": None, "reward_scaling": 1.0})
    config = module.Config(**found["config"])
    loop = module.make(environment, config)

    @jax.jit
    def returns(params: Any, normalizer: Any, key: Any) -> Any:
        preprocess = partial(normalize.apply, normalizer)
        arguments = whole, loop.policy, params, key, preprocess, case.episodes, settings.LONGEST, True
        return rollout.compiled.first_episodes(*arguments)[0]

    state = loop.init(jax.random.key(seed))
    for update in range(case.updates + 1):
        if update % (case.updates // case.points) == 0:
            statistics = state.observation_statistics if config.normalize_observations else None
            normalizer = statistics_for(loop.policy, statistics)
            key = jax.random.key(seed + EVALUATION_SEED)
            yield update * case.update_steps, np.asarray(returns(state.params, normalizer, key)).tolist()
        if update < case.updates:
            state, _ = loop.step(state)

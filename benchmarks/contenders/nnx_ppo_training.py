"""Recurrent PPO of nnx-ppo, on the pendulum with a hidden velocity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx
from nnx_ppo.algorithms import config as options
from nnx_ppo.algorithms import ppo
from nnx_ppo.networks.adapter import PPOAdapter
from nnx_ppo.networks.containers import Sequential
from nnx_ppo.networks.feedforward import Dense
from nnx_ppo.networks.normalizer import Normalizer
from nnx_ppo.networks.recurrent import LSTM
from nnx_ppo.networks.sampling_layers import NormalTanhSampler
from nnx_ppo.wrappers.episode_wrapper import EpisodeWrapper
from nnx_ppo.wrappers.reward_scaling_wrapper import RewardScalingWrapper

from benchmarks import settings
from benchmarks.contenders import stepwise
from benchmarks.contenders.with_jax import hardware
from benchmarks.hidden_pendulum import MAX_STEPS, HiddenPendulum
from benchmarks.worker import Built

__all__ = ["curve", "hardware", "training"]


def training(device: str, of: str, contender: str) -> Built:
    """Rollouts and updates of a training that does not end."""
    endless = _train(settings.arguments(of, contender), options.EvalConfig(enabled=False), 0, 10**9)
    return stepwise.running(endless, settings.CASES[of].calls)


def curve(of: str, contender: str, seed: int) -> Iterator[tuple[int, list[float]]]:
    """The mean return at equally many updates between two points."""
    case = settings.CASES[of]
    total, every = case.updates * case.update_steps, case.updates * case.update_steps // case.points
    evaluation = options.EvalConfig(every_steps=every, n_envs=case.episodes, max_episode_length=MAX_STEPS)
    for metrics, step in stepwise.parts(_train(settings.arguments(of, contender), evaluation, seed, total)):
        if "eval/episode_reward/mean" in metrics:
            yield int(step), [float(metrics["eval/episode_reward/mean"])]


def _train(
    found: dict[str, Any], evaluation: options.EvalConfig, seed: int, total_steps: int
) -> Callable[[Callable[..., None]], Any]:
    width = found["width"]
    rngs = nnx.Rngs(seed)

    def layers(outputs: int) -> list[Any]:
        sizes = HiddenPendulum.observation_size, width
        return [LSTM(*sizes, rngs), Dense(width, width, rngs, activation=nnx.tanh), Dense(width, outputs, rngs)]

    sampler = NormalTanhSampler(rngs, entropy_weight=1e-3)
    heads = PPOAdapter(
        action=Sequential([*layers(2 * HiddenPendulum.action_size), sampler]), value=Sequential(layers(1))
    )
    network = Sequential([Normalizer(HiddenPendulum.observation_size), heads])
    config = options.PPOConfig(
        n_envs=found["num_envs"],
        rollout_length=found["num_steps"],
        total_steps=total_steps,
        n_epochs=found["num_epochs"],
        n_minibatches=found["num_minibatches"],
        learning_rate=found["learning_rate"],
        gradient_clipping=0.5,
    )
    asked = options.TrainConfig(ppo=config, eval=evaluation, seed=seed)
    # It does not scale rewards by itself, and learns nothing here from rewards of ten times the size.
    made = EpisodeWrapper(RewardScalingWrapper(HiddenPendulum(), 0.01), MAX_STEPS)
    return lambda report: ppo.train_ppo(made, network, asked, log_fn=report, eval_env=HiddenPendulum())

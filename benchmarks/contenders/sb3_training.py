"""PPO and SAC of Stable-Baselines3."""

from __future__ import annotations

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.contenders.with_torch import hardware
from benchmarks.worker import Built

__all__ = ["hardware", "ppo", "sac"]


def ppo(device: str, environment: str, num_envs: int, num_steps: int, batch_size: int, num_epochs: int) -> Built:
    """One rollout and its update."""
    options = {"n_steps": num_steps, "batch_size": batch_size, "n_epochs": num_epochs, "device": device}
    model = PPO("MlpPolicy", make_vec_env(environment, num_envs, seed=0), seed=0, **options)
    return Built(lambda: model.learn(num_envs * num_steps, reset_num_timesteps=False), [0.0])


def sac(device: str, environment: str, num_steps: int, batch_size: int, learning_starts: int) -> Built:
    """Steps of one environment, each with its gradient step."""
    options = {"batch_size": batch_size, "learning_starts": learning_starts, "device": device}
    model = SAC("MlpPolicy", make_vec_env(environment, 1, seed=0), seed=0, **options)
    # Skip the random steps before the first gradient step.
    model.learn(learning_starts + 1)
    return Built(lambda: model.learn(num_steps, reset_num_timesteps=False), [0.0])

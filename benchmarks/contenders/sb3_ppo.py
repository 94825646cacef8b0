"""PPO of Stable-Baselines3."""

from __future__ import annotations

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from benchmarks.contenders.with_torch import hardware
from benchmarks.worker import Built

__all__ = ["hardware", "ppo"]


def ppo(device: str, environment: str, num_envs: int, num_steps: int, batch_size: int, num_epochs: int) -> Built:
    """One rollout and its update."""
    options = {"n_steps": num_steps, "batch_size": batch_size, "n_epochs": num_epochs, "device": device}
    model = PPO("MlpPolicy", make_vec_env(environment, num_envs, seed=0), seed=0, **options)
    return Built(lambda: model.learn(num_envs * num_steps, reset_num_timesteps=False), [0.0])

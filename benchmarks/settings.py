"""Trainings on environments of JAX packages: the same sizes for gaussjax and for its peers, and each one's settings.

The published settings of brax are those of its `notebooks/training.ipynb`, and of Playground's
`config/dm_control_suite_params.py`. A budget of 1/64 (CartpoleBalance), 1/128 (reacher) or 1/256 (halfcheetah) of the
published steps keeps the number of updates, epochs, minibatches and steps of an unroll. There are fewer environments
and fewer trajectories in a minibatch, and the networks of both sides are (64, 64) for actor and critic.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

# Steps after which an episode of an evaluation is cut; the environments end theirs earlier.
LONGEST = 10_000


class Case(NamedTuple):
    """Trainings on one environment.

    Attributes:
        title: Name in the table and in the picture.
        arguments: Arguments of each contender, of which the first is gaussjax.
        updates: Updates of a training.
        update_steps: Environment steps of an update.
        points: Points of a curve after the first one; a divisor of `updates`.
        episodes: Episodes of an evaluation.
        speed: Least ratio of our environment steps a second to those of the others, or None without a comparison.
        calls: Updates of one call that is timed.
        seeds: Number of seeds of a curve.
    """

    title: str
    arguments: Mapping[str, Mapping[str, Any]]
    updates: int
    update_steps: int
    points: int = 6
    episodes: int = 8
    speed: float | None = None
    calls: int = 1
    seeds: int = 3


def arguments(case: str, contender: str) -> dict[str, Any]:
    """A copy of the arguments of a contender, which it may change."""
    return copy.deepcopy(dict(CASES[case].arguments[contender]))


def _ours(environment: str, options: dict[str, Any], sizes: tuple[int, int, int, int], **config: Any) -> dict[str, Any]:
    """Arguments of gaussjax; `sizes` are updates, environments, steps, and samples of a minibatch."""
    updates, num_envs, num_steps, batch_size = sizes
    known = {"num_envs": num_envs, "num_steps": num_steps, "batch_size": batch_size}
    config = {"total_steps": updates * num_envs * num_steps, **known, **config}
    return {"environment": environment, "options": options, "config": config}


def _brax(environment: str, options: dict[str, Any], **config: Any) -> dict[str, Any]:
    known = {"normalize_observations": True, "hidden_sizes": (64, 64)}
    return {"environment": environment, "options": options, "config": {**known, **config}}


_REPEATED, _SPRING = {"action_repeat": 4}, {"backend": "spring"}
# Rewards of CartpoleBalance on both sides. The published settings multiply by 10, and values of 2,000 exceed what the
# critics of this budget can fit.
_SCALE = 0.1
# From the published settings of brax.
_LIKE_BRAX = {"anneal_learning_rate": False, "clip_range": 0.3}
_PENDULUM = {"num_envs": 64, "num_steps": 64, "num_minibatches": 8, "num_epochs": 10, "learning_rate": 1e-3}
_HIDDEN = {"num_envs": 64, "num_steps": 40, "num_epochs": 4, "learning_rate": 1e-3}

CASES = {
    "reacher": Case(
        "PPO, brax:reacher",
        {
            "gaussjax-playground": _ours(
                "brax:reacher",
                _REPEATED,
                (30, 64, 50, 100),
                **_LIKE_BRAX,
                num_epochs=8,
                learning_rate=1e-3,
                gamma=0.95,
                entropy_coefficient=1e-3,
                initial_log_std=-1.0,
            ),
            "brax-training": _brax(
                "brax:reacher",
                _REPEATED,
                num_timesteps=30 * 12_800,
                reward_scaling=5,
                unroll_length=50,
                num_minibatches=32,
                num_updates_per_batch=8,
                discounting=0.95,
                learning_rate=3e-4,
                entropy_cost=1e-3,
                num_envs=64,
                batch_size=2,
            ),
        },
        updates=30,
        update_steps=12_800,
        speed=1.1,
    ),
    "halfcheetah": Case(
        "PPO, brax:halfcheetah, spring",
        {
            "gaussjax-playground": _ours(
                "brax:halfcheetah",
                _SPRING,
                (150, 64, 20, 40),
                **_LIKE_BRAX,
                num_epochs=8,
                learning_rate=3e-4,
                gamma=0.95,
                entropy_coefficient=1e-3,
                initial_log_std=-0.5,
            ),
            "brax-training": _brax(
                "brax:halfcheetah",
                _SPRING,
                num_timesteps=150 * 1_280,
                reward_scaling=1,
                unroll_length=20,
                num_minibatches=32,
                num_updates_per_batch=8,
                discounting=0.95,
                learning_rate=3e-4,
                entropy_cost=1e-3,
                num_envs=64,
                batch_size=2,
            ),
        },
        updates=150,
        update_steps=1_280,
        speed=1.1,
        calls=5,
    ),
    "cartpole": Case(
        "PPO, playground:CartpoleBalance",
        {
            "gaussjax-playground": _ours(
                "playground:CartpoleBalance",
                # The published settings reset all environments before each update, so the pole is nearly upright.
                {"max_steps": 60, "reward_scaling": _SCALE},
                (60, 256, 60, 480),
                normalize_rewards=False,
                num_epochs=16,
                learning_rate=1e-3,
                gamma=0.995,
                initial_log_std=-0.5,
            ),
            "brax-training": _brax(
                "playground:CartpoleBalance",
                {},
                num_timesteps=60 * 15_360,
                reward_scaling=_SCALE,
                unroll_length=30,
                num_minibatches=32,
                num_updates_per_batch=16,
                discounting=0.995,
                learning_rate=1e-3,
                entropy_cost=1e-2,
                num_envs=256,
                batch_size=16,
                num_resets_per_eval=10,
            ),
        },
        updates=60,
        update_steps=15_360,
        speed=1.2,
    ),
    "pendulum": Case(
        "PPO, gymnax:Pendulum-v1",
        {
            "gaussjax-gymnax": _ours("gymnax:Pendulum-v1", {}, (100, 64, 64, 512), num_epochs=10, learning_rate=1e-3),
            "rejax-training": {**_PENDULUM, "normalize": True},
            "purejaxrl": {**_PENDULUM, "normalize": True},
        },
        updates=100,
        update_steps=4_096,
        points=5,
        episodes=256,
        speed=1.5,
        calls=4,
    ),
    "hidden": Case(
        "PPO with an LSTM, pendulum with a hidden velocity",
        {
            "gaussjax-nnx-ppo": _ours(
                "benchmarks.hidden_pendulum:make",
                {},
                (200, 64, 40, 640),
                num_epochs=4,
                learning_rate=1e-3,
                network="lstm",
                sequence_length=40,
                hidden_sizes=(64,),
            ),
            "nnx-ppo": {**_HIDDEN, "num_minibatches": 4, "width": 64},
        },
        updates=200,
        update_steps=2_560,
        points=5,
        episodes=128,
        speed=1.5,
        calls=4,
        # The means of three seeds differ by more than the two libraries do.
        seeds=10,
    ),
    "reacher-sac": Case(
        "SAC, brax:reacher",
        {
            "gaussjax-playground": {
                "algorithm": "sac",
                "environment": "brax:reacher",
                "options": _REPEATED,
                "config": {
                    "total_steps": 30 * 16 * 50,
                    "num_envs": 16,
                    "num_steps": 50,
                    "gradient_steps": 4,
                    "learning_starts": 1_600,
                    "hidden_sizes": (128, 128),
                    "gamma": 0.95,
                    "normalize_observations": True,
                },
            }
        },
        updates=30,
        update_steps=3_200,
    ),
    "privileged": Case(
        "PPO, pendulum with state and privileged_state",
        {
            "gaussjax-playground": _ours(
                "benchmarks.hidden_pendulum:make_privileged", {}, (100, 64, 64, 512), num_epochs=10
            )
        },
        updates=100,
        update_steps=4_096,
        points=5,
        episodes=128,
    ),
}

# Environments of the trainings of many seeds: the reset of the first is cheap, those of the others are not.
_DEAR = (1_000, 16, 64, 256)
SEEDS = {
    "Pendulum-v1": _ours(
        "Pendulum-v1", {"backend": "jax"}, (1_000, 64, 64, 512), num_epochs=4, anneal_learning_rate=False
    ),
    "brax:reacher": _ours("brax:reacher", {}, (1_000, 16, 16, 64), num_epochs=4, anneal_learning_rate=False),
    **{
        f"dear resets: {resets}": _ours(
            "benchmarks.dear_resets:make", {"resets": resets}, _DEAR, num_epochs=1, anneal_learning_rate=False
        )
        for resets in ("each", "rollout", "first")
    },
}

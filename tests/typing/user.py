"""Code as a user writes it. `make lint` and the test beside it check its types as strictly as pyright can."""

# pyright: strict
from __future__ import annotations

import jax
import numpy as np

import gaussjax
from gaussjax import envs, rollout
from gaussjax.training import ppo, sac


def act_and_score() -> jax.Array:
    observation_space, action_space = gaussjax.spaces.Box(shape=(3,)), gaussjax.spaces.Box(-1.0, 1.0, (2,))
    network = gaussjax.networks.MLP((64, 32), activation="relu")
    policy = gaussjax.gaussian(network, observation_space, action_space, clip_actions=True)
    params = policy.init(jax.random.key(0))
    observations = np.zeros((5, 3), np.float32)
    actions, log_prob, outputs = policy.act(params, jax.random.key(1), observations, deterministic=False)
    scored, entropy, _ = policy.evaluate(params, observations, raw_actions=outputs["raw_actions"])
    distribution, outputs = policy.apply(params, observations, carry=policy.initial_carry((5,)))
    noise = policy.noise(jax.random.key(2), (5,))
    again = policy.act(params, None, observations, noise=noise)
    total = policy.entropy(params, observations, reduction="sum") + policy.log_std(params, observations).sum()
    print(actions.shape, policy.distribution(outputs).entropy() - distribution.entropy(), policy.spec.to_dict())
    return jax.numpy.mean(log_prob + scored + entropy + again.log_prob) + total


def save_load_and_serve(path: str) -> jax.Array:
    policy = gaussjax.squashed_gaussian(
        gaussjax.networks.GRU(hidden_size=16, sizes=(16,)), 3, gaussjax.spaces.Box(-1.0, 1.0, (2,))
    )
    gaussjax.save(path, policy, policy.init(jax.random.key(0)), metadata={"environment": "Pendulum-v1"})
    loaded = gaussjax.load(path)
    answer = loaded.act(np.zeros((5, 3)), carry=loaded.policy.initial_carry((5,)), resets=np.ones(5, bool))
    act = gaussjax.serve(loaded.policy, loaded.params, loaded.normalizer)
    return act(np.zeros(3, np.float32), jax.random.key(1)) + answer.actions + answer.outputs["carry"]


def train(seed: int = 0) -> list[float]:
    environments = envs.make_vector("Pendulum-v1", 4)
    loop = ppo.make(environments, ppo.Config(num_envs=4, num_steps=64, batch_size=64))
    state, metrics = loop.step(loop.init(jax.random.key(seed)))
    environments.close()
    print(float(metrics["episode_return"]))
    episodes = rollout.evaluate(loop.policy, state.params, "Pendulum-v1", normalizer=state.observation_statistics)
    sac.make(envs.make_functional("Pendulum-v1"), sac.Config(num_envs=2))
    return episodes.returns

"""Makes the files of sb3.zip: `python make_sb3.py FOLDER`, then `python -m zipfile -c sb3.zip FOLDER/*`.

Needs stable-baselines3==2.9.2, sbx-rl==0.28.0 and optax==0.2.6. The .npz has observations, the library's
deterministic actions, samples before clipping or tanh, and their log-densities in the library's own units. With gSDE
it also has standard normal matrices, the samples of their noise, and the normal log-densities and entropies.
"""

import copy
import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

LOW, HIGH = np.float32([-2.0, -0.5]), np.float32([1.0, 1.5])
VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)
NESTED = spaces.Dict({"b": spaces.Box(-5, 5, (2, 2)), "a": spaces.Discrete(3), "c": spaces.Box(-1, 1, (1,))})
NESTED = spaces.Dict([("b", NESTED["b"]), ("a", NESTED["a"]), ("c", NESTED["c"])])


class Environment(gymnasium.Env):
    def __init__(self, space=VECTOR):
        self.observation_space, self.action_space = space, spaces.Box(LOW, HIGH)
        self.steps, self.random = 0, np.random.default_rng(0)

    def observed(self):
        vector = self.random.normal(size=3).astype(np.float32) * np.float32([1, 4, 0.2]) + 0.5
        if isinstance(self.observation_space, spaces.Box):
            return vector
        return {"b": np.resize(vector, (2, 2)), "a": int(self.random.integers(3)), "c": vector[:1].clip(-1, 1)}

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.observed(), {}

    def step(self, action):
        self.steps += 1
        return self.observed(), -float(np.square(action).sum()), False, self.steps >= 8, {}


ON = {"n_steps": 16, "seed": 0}
OFF = {"learning_starts": 20, "buffer_size": 100, "batch_size": 8, "seed": 0, "train_freq": 4}
SMALL: dict = {"net_arch": [8, 6]}
RELU = {"activation_fn": torch.nn.ReLU, "net_arch": {"pi": [8], "vf": [4]}, "log_std_init": -0.5}
# Class, policy, observation space and options.
CASES = {
    "ppo": (PPO, "MlpPolicy", VECTOR, {**ON, "policy_kwargs": SMALL}),
    "ppo_relu": (PPO, "MlpPolicy", VECTOR, {**ON, "policy_kwargs": RELU}),
    "ppo_shallow": (PPO, "MlpPolicy", VECTOR, {**ON, "policy_kwargs": {"net_arch": {"pi": [], "vf": [4]}}}),
    "ppo_dict": (PPO, "MultiInputPolicy", NESTED, {**ON, "policy_kwargs": SMALL}),
    "a2c": (A2C, "MlpPolicy", VECTOR, {"seed": 0, "policy_kwargs": SMALL}),
    "ppo_gsde": (PPO, "MlpPolicy", VECTOR, {**ON, "use_sde": True, "policy_kwargs": SMALL}),
    "ppo_gsde_squashed": (
        PPO,
        "MlpPolicy",
        VECTOR,
        {
            **ON,
            "use_sde": True,
            "policy_kwargs": {**SMALL, "squash_output": True, "use_expln": True, "full_std": False},
        },
    ),
    "sac": (SAC, "MlpPolicy", VECTOR, {**OFF, "policy_kwargs": {"net_arch": {"pi": [8, 6], "qf": [4]}}}),
    "sac_gsde": (SAC, "MlpPolicy", VECTOR, {**OFF, "use_sde": True, "policy_kwargs": {"net_arch": [8, 6]}}),
    "sac_gsde_unclipped": (
        SAC,
        "MlpPolicy",
        VECTOR,
        {**OFF, "use_sde": True, "policy_kwargs": {"net_arch": [8], "clip_mean": 0.0, "use_expln": True}},
    ),
}


def batch(space, count, seed):
    environment = Environment(space)
    environment.random = np.random.default_rng(seed)
    observed = [environment.observed() for _ in range(count)]
    if isinstance(space, spaces.Box):
        return np.stack(observed)
    return {name: np.stack([entry[name] for entry in observed]) for name in observed[0]}


def numbers(model, observations):
    """Returns SB3's samples before clipping or tanh, and their log-densities."""
    tensors, _ = model.policy.obs_to_tensor(observations)
    with torch.no_grad():
        if isinstance(model, SAC):
            distribution = model.actor.action_dist
            actions, log_prob = model.actor.action_log_prob(tensors)
            samples = distribution.gaussian_actions if not model.use_sde else np.arctanh(actions)
            return np.asarray(samples), np.asarray(log_prob), np.asarray(actions)
        distribution = model.policy.get_distribution(tensors)
        actions = distribution.get_actions()
        log_prob = distribution.log_prob(actions)
        squashed = getattr(distribution, "bijector", None) is not None
        samples = distribution.bijector.inverse(actions) if squashed else actions
        return np.asarray(samples), np.asarray(log_prob), np.asarray(actions)


def explored(model, observations):
    """Returns matrices of SB3's gSDE, one for each observation, and SB3's samples and normal numbers with them."""
    tensors, _ = model.policy.obs_to_tensor(observations)
    with torch.no_grad():
        if isinstance(model, SAC):
            mean, log_std, options = model.actor.get_action_dist_params(tensors)
            distribution = model.actor.action_dist.proba_distribution(mean, log_std, **options)
        else:
            log_std, distribution = model.policy.log_std, model.policy.get_distribution(tensors)
        distribution.sample_weights(log_std, batch_size=len(observations))
        normal = distribution.distribution
        samples = normal.mean + distribution.get_noise(distribution._latent_sde)
        found = {
            "matrices": distribution.exploration_matrices / distribution.get_std(log_std),
            "explored": samples,
            "normal_log_prob": normal.log_prob(samples).sum(1),
            "normal_entropy": normal.entropy().sum(1),
        }
    return {name: np.asarray(array) for name, array in found.items()}


def main(folder):
    for name, (algorithm, policy, space, options) in CASES.items():
        # SB3 writes into the options of a policy.
        model = algorithm(policy, Environment(space), device="cpu", **copy.deepcopy(options))
        model.learn(64)
        for key, parameter in model.policy.named_parameters():
            if key.endswith("log_std"):
                parameter.data += 0.3 * torch.randn_like(parameter)
            # SB3 begins with means near 0.
            if key == "action_net.weight":
                parameter.data *= 50.0
        model.save(folder / f"sb3_{name}.zip")
        observations = batch(space, 8, 1)
        actions, _ = model.predict(observations, deterministic=True)
        samples, log_prob, squashed = numbers(model, observations)
        flat = {"observations": observations} if not isinstance(observations, dict) else observations
        if "gsde" in name:
            flat |= explored(model, observations)
        np.savez(
            folder / f"sb3_{name}.npz", actions=actions, samples=samples, log_prob=log_prob, squashed=squashed, **flat
        )
    normalised = VecNormalize(DummyVecEnv([Environment]), clip_obs=2.0)
    model = PPO("MlpPolicy", normalised, device="cpu", **ON, policy_kwargs=dict(SMALL))
    model.learn(64)
    model.save(folder / "sb3_normalised.zip")
    normalised.save(folder / "sb3_normalised.pkl")
    observations = batch(VECTOR, 8, 1)
    actions, _ = model.predict(normalised.normalize_obs(observations), deterministic=True)
    samples, log_prob, squashed = numbers(model, normalised.normalize_obs(observations))
    np.savez(
        folder / "sb3_normalised.npz",
        actions=actions,
        samples=samples,
        log_prob=log_prob,
        squashed=squashed,
        observations=observations,
    )
    model.policy.save(folder / "sb3_policy.pth")
    sbx(folder)


def sbx(folder):
    import jax
    import sbx

    for name, algorithm, options in (
        ("ppo", sbx.PPO, {**ON, "policy_kwargs": SMALL, "n_steps": 64}),
        ("sac", sbx.SAC, {**OFF, "policy_kwargs": {"net_arch": {"pi": [8, 6], "qf": [4]}}}),
    ):
        model = algorithm("MlpPolicy", Environment(), **copy.deepcopy(options))
        model.learn(64)
        model.save(folder / f"sbx_{name}.zip")
        observations = batch(VECTOR, 8, 1)
        actions, _ = model.predict(observations, deterministic=True)
        state = model.policy.actor_state
        distribution = state.apply_fn(state.params, observations)
        inner = distribution.distribution if name == "sac" else distribution
        samples = inner.sample(seed=jax.random.key(0))
        squashed = np.tanh(samples) if name == "sac" else samples
        log_prob = inner.log_prob(samples)
        if name == "sac":
            volume = 2.0 * (np.log(2.0) - np.asarray(samples) - np.logaddexp(0.0, -2.0 * np.asarray(samples)))
            log_prob = np.asarray(log_prob) - volume.sum(-1)
        np.savez(
            folder / f"sbx_{name}.npz",
            observations=observations,
            actions=actions,
            samples=np.asarray(samples),
            log_prob=np.asarray(log_prob),
            squashed=np.asarray(squashed),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

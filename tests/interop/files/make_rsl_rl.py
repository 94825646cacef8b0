"""Makes the files of rsl_rl.zip: `python make_rsl_rl.py FOLDER`, then `python -m zipfile -c rsl_rl.zip FOLDER/*`.

Run it once with each release: pip install rsl-rl-lib==5.5.1 (4.0.1, 3.3.0, 2.3.3). The .npz has observations, rsl_rl's
deterministic actions, samples, and the log-densities of the samples, summed over the actions.
"""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rsl_rl.runners import OnPolicyRunner

NUM_ENVS, WIDTH, NUM_ACTIONS, STEPS = 4, 5, 2, 6


class Environment:
    """Observations that drift with the actions; groups in a TensorDict, or one tensor for release 2."""

    def __init__(self, grouped):
        self.num_envs, self.num_actions, self.device, self.cfg = NUM_ENVS, NUM_ACTIONS, "cpu", {}
        self.max_episode_length = 5
        self.episode_length_buf = torch.zeros(NUM_ENVS, dtype=torch.long)
        self.unwrapped, self.grouped = self, grouped
        self.state = torch.zeros(NUM_ENVS, WIDTH)

    def observed(self):
        if not self.grouped:
            return self.state.clone()
        from tensordict import TensorDict

        groups = {"joints": self.state[:, :3].clone(), "goal": self.state[:, 3:].clone()}
        return TensorDict(groups, batch_size=[NUM_ENVS])

    def get_observations(self):
        return self.observed() if self.grouped else (self.observed(), {"observations": {}})

    def reset(self):
        return self.get_observations()

    def step(self, actions):
        scale = torch.tensor([1.0, 3.0, 0.2, 1.0, 0.5])
        self.state = 0.5 * self.state + scale * torch.randn(NUM_ENVS, WIDTH) + 0.1 * actions.sum(-1, keepdim=True) + 0.3
        self.episode_length_buf += 1
        done = self.episode_length_buf >= self.max_episode_length
        self.episode_length_buf[done] = 0
        extras = {"time_outs": torch.zeros(NUM_ENVS), "observations": {}}
        return self.observed(), -self.state.square().mean(-1), done, extras


ALGORITHM = {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2}
RUN = {"num_steps_per_env": 8, "save_interval": 1000, "logger": "tensorboard", "multi_gpu": None}


def runner(release, folder, hidden, activation, normalised, std_type, state_dependent, rnn):
    """Makes a runner of the installed release, whose options have other names in each release."""
    if release >= 4:
        model = {"hidden_dims": hidden, "activation": activation, "obs_normalization": normalised}
        model |= {"rnn_type": rnn[0], "rnn_hidden_dim": rnn[1], "rnn_num_layers": rnn[2]} if rnn else {}
        kind = "RNNModel" if rnn else "MLPModel"
        name = f"{'Heteroscedastic' if state_dependent else ''}GaussianDistribution"
        noise: dict = {"distribution_cfg": {"class_name": name, "init_std": 0.7, "std_type": std_type}}
        if release == 4:
            noise = {"init_noise_std": 0.7, "noise_std_type": std_type, "state_dependent_std": state_dependent}
            noise |= {"stochastic": True}
        config = {**RUN, "actor": {"class_name": kind, **model, **noise}, "critic": {"class_name": kind, **model}}
        groups = {"actor": ["joints", "goal"], "critic": ["joints", "goal"]}
        if release == 4:
            config["critic"]["stochastic"] = False
    else:
        kind = "ActorCriticRecurrent" if rnn else "ActorCritic"
        policy = {"actor_hidden_dims": hidden, "critic_hidden_dims": [4], "activation": activation}
        policy |= {"init_noise_std": 0.7, "noise_std_type": std_type, "class_name": kind}
        policy |= {"rnn_type": rnn[0], "rnn_hidden_dim": rnn[1], "rnn_num_layers": rnn[2]} if rnn else {}
        if release == 3:
            policy |= {"actor_obs_normalization": normalised, "critic_obs_normalization": normalised}
            policy |= {} if rnn else {"state_dependent_std": state_dependent}
        config = {**RUN, "policy": policy, "empirical_normalization": normalised}
        groups = {"policy": ["joints", "goal"], "critic": ["joints", "goal"]}
    config |= {"algorithm": {"rnd_cfg": None, "symmetry_cfg": None, **ALGORITHM}, "obs_groups": groups}
    return OnPolicyRunner(Environment(release >= 3), config, log_dir=str(folder), device="cpu")


def play(release, made, observations):
    """Returns rsl_rl's deterministic actions, samples and log-densities for a sequence of observations."""
    results: dict = {"actions": [], "samples": [], "log_prob": []}
    for observed in observations:
        groups: object = observed
        if release >= 3:
            from tensordict import TensorDict

            groups = TensorDict({"joints": observed[:, :3], "goal": observed[:, 3:]}, batch_size=[len(observed)])
        if release >= 4:
            actor = made.alg.actor
            before = actor.get_hidden_state()
            actions = actor(groups)
            actor.reset(hidden_state=before) if before is not None else actor.reset()
            samples = actor(groups, stochastic_output=True)
            log_prob = actor.get_output_log_prob(samples)
        else:
            policy = made.alg.policy
            if release == 2:
                groups = made.obs_normalizer(groups)
            memory = policy.memory_a if policy.is_recurrent else None
            before = getattr(memory, "hidden_states", getattr(memory, "hidden_state", None))
            actions = policy.act_inference(groups)
            if memory is not None:
                setattr(memory, "hidden_states" if hasattr(memory, "hidden_states") else "hidden_state", before)
            samples = policy.act(groups)
            log_prob = policy.get_actions_log_prob(samples)
        for name, value in (("actions", actions), ("samples", samples), ("log_prob", log_prob)):
            results[name].append(value.detach().numpy())
    return {name: np.stack(values) for name, values in results.items()}


CASES = {
    "elu": ([8, 6], "elu", True, "scalar", False, None),
    "log": ([8], "gelu", False, "log", False, None),
    "lstm": ([6], "elu", True, "scalar", False, ("lstm", 5, 2)),
    "gru": ([6], "tanh", True, "log", False, ("gru", 5, 1)),
    "state": ([8, 6], "mish", True, "scalar", True, None),
    "state_log": ([8], "crelu", False, "log", True, None),
}


def main(folder):
    release_text = metadata.version("rsl-rl-lib")
    release = int(release_text.partition(".")[0])
    for name, case in CASES.items():
        # Older releases lack an activation or a state-dependent standard deviation.
        if (release == 2 and (case[4] or case[1] in ("gelu", "mish"))) or (release < 5 and name == "state_log"):
            continue
        torch.manual_seed(0)
        made = runner(release, folder / "log", *case)
        made.learn(2)
        for key, parameter in [*(made.alg.actor if release >= 4 else made.alg.policy).named_parameters()]:
            if key.endswith(("std", "std_param")):
                parameter.data = torch.tensor([0.3, -0.4 if "log" in key else 1.7])
        stem = folder / f"rsl_rl_{release_text}_{name}"
        made.save(f"{stem}.pt")
        # This sets the modules to evaluation.
        made.get_inference_policy(device="cpu")
        observations = torch.randn(STEPS, NUM_ENVS, WIDTH) * 2 + 0.5
        if case[5]:
            memory = made.alg.actor.rnn if release >= 4 else made.alg.policy.memory_a
            setattr(memory, "hidden_states" if hasattr(memory, "hidden_states") else "hidden_state", None)
        with torch.no_grad():
            results = play(release, made, observations)
        np.savez(f"{stem}.npz", observations=observations.numpy(), **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What recurrent models of skrl 2.1.1 compute of rollouts in its memory, written to a file; run by its own Python.

Usage: python skrl_recurrent.py RESULTS.npz
"""

import sys

import gymnasium
import numpy as np
import torch
from skrl.memories.torch import RandomMemory
from skrl.models.torch import GaussianMixin, Model

STEPS, ENVS, LENGTH, FEATURES, ACTIONS, HIDDEN = 12, 5, 4, 3, 2, 8
OBSERVED = gymnasium.spaces.Box(-np.inf, np.inf, (FEATURES,))
ACTED = gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,))
ROWS = {"rnn": (torch.nn.RNN, 1), "gru": (torch.nn.GRU, 1), "lstm": (torch.nn.LSTM, 1), "deep-lstm": (torch.nn.LSTM, 2)}


class Recurrent(GaussianMixin, Model):
    """A model as skrl's page shapes them: stepped in a rollout, split behind terminations in training."""

    def __init__(self, cell, layers):
        Model.__init__(self, observation_space=OBSERVED, state_space=None, action_space=ACTED, device="cpu")
        GaussianMixin.__init__(self)
        self.layers = layers
        self.memory = cell(FEATURES, HIDDEN, layers, batch_first=True)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(HIDDEN, 16), torch.nn.ReLU(), torch.nn.Linear(16, ACTIONS), torch.nn.Tanh()
        )
        self.log_std_parameter = torch.nn.Parameter(torch.tensor([-0.5, 0.25]))

    def get_specification(self):
        states = 2 if isinstance(self.memory, torch.nn.LSTM) else 1
        return {"rnn": {"sequence_length": LENGTH, "sizes": [(self.layers, ENVS, HIDDEN)] * states}}

    def run(self, x, states):
        features, states = self.memory(x, tuple(states) if len(states) == 2 else states[0])
        return features, list(states) if isinstance(states, tuple) else [states]

    def compute(self, inputs, role):
        x, states = inputs["observations"], inputs["rnn"]
        if not self.training:
            features, states = self.run(x[:, None], states)
        else:
            x = x.view(-1, LENGTH, FEATURES)
            ended = inputs["terminated"].view(-1, LENGTH)
            states = [state.view(self.layers, -1, LENGTH, HIDDEN)[:, :, 0].contiguous() for state in states]
            ends = [t + 1 for t in range(LENGTH - 1) if ended[:, t].any()] + [LENGTH]
            parts, begin = [], 0
            for end in ends:
                features, states = self.run(x[:, begin:end].contiguous(), states)
                states = [state * (~ended[:, end - 1])[None, :, None] for state in states]
                parts.append(features)
                begin = end
            features = torch.cat(parts, 1)
        return self.net(features.flatten(0, 1)), {"log_std": self.log_std_parameter, "rnn": states}


def rollout(model, observations, terminated):
    """The steps as an agent takes them, kept in skrl's memory."""
    sizes = model.get_specification()["rnn"]["sizes"]
    states = [torch.zeros(size) for size in sizes]
    memory = RandomMemory(memory_size=STEPS, num_envs=ENVS, device="cpu")
    memory.create_tensor(name="observations", size=FEATURES, dtype=torch.float32)
    memory.create_tensor(name="actions", size=ACTIONS, dtype=torch.float32)
    memory.create_tensor(name="terminated", size=1, dtype=torch.bool)
    for i, (layers, _, hidden) in enumerate(sizes):
        memory.create_tensor(name=f"rnn_{i}", size=(layers, hidden), dtype=torch.float32, keep_dimensions=True)
    means, carries = [], []
    for x, ended in zip(observations, terminated, strict=True):
        with torch.no_grad():
            actions, outputs = model.act({"observations": x, "rnn": states})
        kept = {f"rnn_{i}": state.transpose(0, 1) for i, state in enumerate(states)}
        memory.add_samples(observations=x, actions=actions, terminated=ended[:, None], **kept)
        means.append(outputs["mean_actions"])
        carries.append(torch.stack(states))
        states = [state * ~ended[None, :, None] for state in outputs["rnn"]]
    return memory, len(sizes), torch.stack(means), torch.stack(carries)


def main(path):
    generator = np.random.default_rng(0)
    observations = torch.from_numpy(generator.normal(size=(STEPS, ENVS, FEATURES)).astype(np.float32))
    terminated = torch.from_numpy(generator.random((STEPS, ENVS)) < 0.25)
    weights = torch.from_numpy(generator.normal(size=(STEPS * ENVS, 1)).astype(np.float32))
    results = {"observations": observations, "terminated": terminated, "weights": weights}
    for name, (cell, layers) in ROWS.items():
        torch.manual_seed(1)
        model = Recurrent(cell, layers)
        model.eval()
        memory, count, means, carries = rollout(model, observations, terminated)
        results |= {f"{name} rollout means": means, f"{name} carries": carries}
        names = ["observations", "actions", "terminated", *(f"rnn_{i}" for i in range(count))]
        x, actions, ended, *states = memory.sample_all(names, mini_batches=1, sequence_length=LENGTH)[0]
        model.train()
        inputs = {"observations": x, "taken_actions": actions, "terminated": ended}
        _, outputs = model.act({**inputs, "rnn": [state.transpose(0, 1) for state in states]}, role="policy")
        (weights * outputs["log_prob"]).sum().backward()
        results |= {f"{name} sampled": x, f"{name} actions": memory.get_tensor_by_name("actions")}
        results |= {f"{name} means": outputs["mean_actions"], f"{name} log_prob": outputs["log_prob"]}
        results |= {f"{name} after {i}": state for i, state in enumerate(outputs["rnn"])}
        for parameter, tensor in model.named_parameters():
            results |= {f"{name} value {parameter}": tensor, f"{name} gradient {parameter}": tensor.grad}
    np.savez(path, **{name: tensor.detach().numpy() for name, tensor in results.items()})


if __name__ == "__main__":
    main(sys.argv[1])

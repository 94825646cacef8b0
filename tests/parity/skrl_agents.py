"""Trains agents of skrl in torch with its own models and with ours, from equal weights; run by skrl's own Python.

Usage: python skrl_agents.py RESULTS.npz [AGENT …]
"""

import copy
import itertools
import sys
import tempfile

import gymnasium
import numpy as np
import torch
from skrl.agents.torch import a2c, amp, ppo, sac, trpo
from skrl.agents.torch.ppo import ppo_rnn
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer

import gaussjax
from gaussjax.interop.skrl import torch_model

UPDATES, ROLLOUTS, ENVS, LENGTH, WIDTH = 30, 16, 4, 8, 32
SEEN, ACTED = gymnasium.spaces.Box(-np.inf, np.inf, (3,)), gymnasium.spaces.Box(-1.0, 1.0, (2,))
ONE, BOTH = gaussjax.spaces.Box(shape=(1,)), gymnasium.spaces.Dict({"observations": SEEN, "taken_actions": ACTED})


class Environment:
    """A linear system with noise, whose episodes end and are cut off at random."""

    observation_space, state_space, action_space = SEEN, None, ACTED
    num_envs, num_agents, device, array = ENVS, 1, torch.device("cpu"), staticmethod(torch.from_numpy)

    def __init__(self):
        self.generator = np.random.default_rng(3)
        self.drawn = self.generator.normal(size=(2, 3)).astype(np.float32)
        self.now = self.generator.normal(size=(ENVS, 3)).astype(np.float32)

    def reset(self):
        return self.array(self.now), {}

    def step(self, actions):
        noise = self.generator.normal(size=(ENVS, 3)).astype(np.float32)
        self.now = 0.9 * self.now + 0.3 * np.tanh(np.asarray(actions)) @ self.drawn + 0.1 * noise
        reward = -np.square(self.now).sum(-1, keepdims=True)
        ended = self.generator.random((2, ENVS, 1)) < 0.05
        infos = {"amp_obs": self.array(np.concatenate([self.now, self.now], -1))}
        return *map(self.array, (self.now, reward, *ended)), infos

    def state(self):
        return None

    def render(self):
        pass

    def close(self):
        pass


class Policy(GaussianMixin, Model):
    def __init__(self, cell=None):
        Model.__init__(self, observation_space=SEEN, action_space=ACTED, device="cpu")
        GaussianMixin.__init__(self, clip_actions=cell is None)
        self.memory = None if cell is None else cell(3, WIDTH, batch_first=True)
        sizes = (3 if cell is None else WIDTH, WIDTH, WIDTH, 2)
        self.net = layers(sizes)
        self.net.append(torch.nn.Tanh())
        self.log_std_parameter = torch.nn.Parameter(torch.full((2,), -0.5))

    def get_specification(self):
        if self.memory is None:
            return {}
        states = 2 if isinstance(self.memory, torch.nn.LSTM) else 1
        return {"rnn": {"sequence_length": LENGTH, "sizes": [(1, ENVS, WIDTH)] * states}}

    def recur(self, inputs):
        """Runs the recurrent layer as skrl's examples do: sequences are split where an episode of a batch ends."""
        x, states = inputs["observations"], [state.contiguous() for state in inputs["rnn"]]

        def run(x, states):
            features, after = self.memory(x, tuple(states) if len(states) == 2 else states[0])
            return features, list(after) if isinstance(after, tuple) else [after]

        if inputs.get("terminated") is None:
            features, states = run(x[:, None], states)
            return features[:, 0], states
        x = x.view(-1, LENGTH, 3)
        ended = (inputs["terminated"] | inputs["truncated"]).view(-1, LENGTH)
        states = [state.view(1, -1, LENGTH, WIDTH)[:, :, 0].contiguous() for state in states]
        parts = []
        for t in range(LENGTH):
            features, states = run(x[:, t : t + 1], states)
            states = [state * (~ended[:, t])[None, :, None] for state in states]
            parts.append(features)
        return torch.cat(parts, 1).flatten(0, 1), states

    def compute(self, inputs, role):
        if self.memory is None:
            return self.net(inputs["observations"]), {"log_std": self.log_std_parameter}
        features, states = self.recur(inputs)
        return self.net(features), {"log_std": self.log_std_parameter, "rnn": states}


class Value(DeterministicMixin, Model):
    def __init__(self, width=3):
        Model.__init__(self, observation_space=SEEN, action_space=ACTED, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = layers((width, WIDTH, WIDTH, 1))

    def compute(self, inputs, role):
        x = inputs["observations"]
        taken = [inputs["taken_actions"]] if self.net[0].in_features > x.shape[-1] else []
        return self.net(torch.cat([x, *taken], -1)), {}


def layers(sizes):
    parts = []
    for before, after in itertools.pairwise(sizes):
        # A unit of ReLU that rounding switches off moves its weights by whole steps of Adam.
        parts += [torch.nn.Linear(before, after), torch.nn.ELU()]
    return torch.nn.Sequential(*parts[:-1])


def ours(model, **options):
    """Our model of the same network, with the weights of skrl's."""
    net = [name for name, _ in model.net.named_parameters() if name.endswith("weight")]
    places = [*(f"layers.dense_{i}" for i in range(len(net) - 1)), "head.mean"]
    names = {f"net.{name.removesuffix('.weight')}": place for name, place in zip(net, places, strict=False)}
    names |= {"memory": "memory", "log_std_parameter": "head.log_std"}
    params = {}
    for name, tensor in model.named_parameters():
        match = next(theirs for theirs in names if f"{name}.".startswith(f"{theirs}."))
        params[names[match] + name[len(match) :]] = tensor.detach().clone()
    hidden = (WIDTH,) * (len(net) - 1)
    if isinstance(model, Value):
        space = SEEN if model.net[0].in_features == 3 else BOTH
        policy = gaussjax.gaussian(gaussjax.networks.MLP(hidden, "elu", std="fixed"), space, ONE)
        return torch_model(policy, params=params, deterministic=True, device="cpu")
    network = gaussjax.networks.MLP(hidden, "elu", initial_log_std=-0.5)
    if model.memory is not None:
        kind = getattr(gaussjax.networks, type(model.memory).__name__)
        network = kind(hidden_size=WIDTH, sizes=hidden, activation="elu", initial_log_std=-0.5, sequence_length=LENGTH)
    policy = gaussjax.gaussian(network, SEEN, ACTED, clip_actions=model.memory is None)
    return torch_model(policy, params=params, num_envs=ENVS, device="cpu")


def config(**options):
    experiment = {"directory": tempfile.gettempdir(), "write_interval": 0, "checkpoint_interval": 0}
    scaler = {"observation_preprocessor": RunningStandardScaler}
    return {
        **scaler,
        "observation_preprocessor_kwargs": {"size": SEEN, "device": "cpu"},
        "experiment": experiment,
        **options,
    }


ON_POLICY = {"rollouts": ROLLOUTS, "learning_rate": 1e-3}
AGENTS = {
    "PPO": (ppo.PPO, config(**ON_POLICY, learning_epochs=4, mini_batches=2, entropy_loss_scale=0.01)),
    "A2C": (a2c.A2C, config(**ON_POLICY, entropy_loss_scale=0.01)),
    "TRPO": (
        trpo.TRPO,
        config(**ON_POLICY, learning_epochs=2, mini_batches=2, damping=1.0, conjugate_gradient_steps=3),
    ),
    "SAC": (sac.SAC, config(batch_size=32, learning_rate=1e-3, random_timesteps=8, learning_starts=8)),
    "AMP": (amp.AMP, config(**ON_POLICY, learning_epochs=2, mini_batches=2, amp_batch_size=16)),
    "PPO_RNN": (ppo_rnn.PPO_RNN, config(**ON_POLICY, learning_epochs=4, mini_batches=2, entropy_loss_scale=0.01)),
}


def trained(
    name, models, steps, agents=AGENTS, memory=RandomMemory, trainer=SequentialTrainer, environment=Environment
):
    agent_class, options = agents[name]
    memory = memory(memory_size=256 if name == "SAC" else ROLLOUTS, num_envs=ENVS, device="cpu")
    extra = {}
    if name == "AMP":
        generator = torch.Generator().manual_seed(5)
        extra = {
            "amp_observation_space": gymnasium.spaces.Box(-np.inf, np.inf, (6,)),
            "motion_dataset": RandomMemory(memory_size=50, device="cpu"),
            "reply_buffer": RandomMemory(memory_size=100, device="cpu"),
            "collect_reference_motions": lambda count: torch.randn(count, 6, generator=generator),
        }
    spaces = {"observation_space": SEEN, "state_space": None, "action_space": ACTED, "device": "cpu"}
    agent = agent_class(models=models, memory=memory, cfg=copy.deepcopy(options), **spaces, **extra)
    quiet = {"headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
    torch.manual_seed(7)
    np.random.seed(7)
    models["policy"].action_space.seed(7)
    trainer(cfg={"timesteps": steps, **quiet}, env=environment(), agents=agent).train()
    return agent


def models(name, convert=lambda model: model):
    """Models of one agent; those of AMP's discriminator stay skrl's, for it reads their layers."""
    torch.manual_seed(1)
    roles = {"policy": Policy(torch.nn.GRU if name == "PPO_RNN" else None)}
    if name == "SAC":
        roles |= {f"{target}critic_{i}": Value(5) for i in (1, 2) for target in ("", "target_")}
    else:
        roles["value"] = Value()
    found = {role: convert(model) for role, model in roles.items()}
    return {**found, "discriminator": Value(6)} if name == "AMP" else found


def main(path, *chosen):
    torch.set_num_threads(1)
    results = {}
    for name in chosen or AGENTS:
        steps = UPDATES + 8 if name == "SAC" else UPDATES * ROLLOUTS
        theirs, mine = (trained(name, models(name, convert), steps) for convert in (lambda model: model, ours))
        for role, model in theirs.models.items():
            start = ours(models(name)[role]).state_dict() if role != "discriminator" else model.state_dict()
            expected = ours(model).state_dict() if role != "discriminator" else model.state_dict()
            found = mine.models[role].state_dict()
            for key, tensor in expected.items():
                results |= {f"{name}/{role}/{key}/skrl": tensor, f"{name}/{role}/{key}/ours": found[key]}
                results[f"{name}/{role}/{key}/start"] = start[key]
    np.savez(path, **{name: tensor.numpy() for name, tensor in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])

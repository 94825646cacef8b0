"""PPO of skrl on Pendulum-v1, in the form of its examples; the migration page changes its models.

Usage: python skrl_pendulum.py torch|jax SEED UPDATES
"""

import json
import sys
import time

import gymnasium as gym
from skrl.utils import set_seed

framework, seed, updates = sys.argv[1], *map(int, sys.argv[2:])

if framework == "torch":
    import torch
    import torch.nn as nn
    from skrl.agents.torch.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.torch import RunningStandardScaler
    from skrl.trainers.torch import SequentialTrainer

    torch.set_num_threads(1)

    class Policy(GaussianMixin, Model):
        def __init__(self, observation_space, state_space, action_space, device):
            spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
            Model.__init__(self, **spaces, device=device)
            GaussianMixin.__init__(self)
            layers = nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Tanh()
            self.net, self.log_std_parameter = nn.Sequential(*layers), nn.Parameter(torch.zeros(1))

        def compute(self, inputs, role):
            return 2.0 * self.net(inputs["observations"]), {"log_std": self.log_std_parameter}

    class Value(DeterministicMixin, Model):
        def __init__(self, observation_space, state_space, action_space, device):
            spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
            Model.__init__(self, **spaces, device=device)
            DeterministicMixin.__init__(self)
            self.net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

else:
    import flax.linen as nn
    import jax.numpy as jnp
    from skrl import config
    from skrl.agents.jax.ppo import PPO, PPO_CFG
    from skrl.envs.wrappers.jax import wrap_env
    from skrl.memories.jax import RandomMemory
    from skrl.models.jax import DeterministicMixin, GaussianMixin, Model
    from skrl.resources.preprocessors.jax import RunningStandardScaler
    from skrl.trainers.jax import SequentialTrainer

    class Policy(GaussianMixin, Model):
        def __init__(self, observation_space, state_space, action_space, device=None, **linen):
            spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
            Model.__init__(self, **spaces, device=device, **linen)
            GaussianMixin.__init__(self)

        @nn.compact
        def __call__(self, inputs, role):
            x = nn.relu(nn.Dense(64)(inputs["observations"]))
            x = nn.relu(nn.Dense(64)(x))
            return 2.0 * nn.tanh(nn.Dense(1)(x)), {"log_std": self.param("log_std", lambda _: jnp.zeros(1))}

    class Value(DeterministicMixin, Model):
        def __init__(self, observation_space, state_space, action_space, device=None, **linen):
            spaces = {"observation_space": observation_space, "state_space": state_space, "action_space": action_space}
            Model.__init__(self, **spaces, device=device, **linen)
            DeterministicMixin.__init__(self)

        @nn.compact
        def __call__(self, inputs, role):
            x = nn.relu(nn.Dense(64)(inputs["observations"]))
            x = nn.relu(nn.Dense(64)(x))
            return nn.Dense(1)(x), {}


set_seed(seed)
vector = gym.make_vec("Pendulum-v1", num_envs=8, vectorization_mode="sync")
returns = gym.wrappers.vector.RecordEpisodeStatistics(vector, buffer_length=updates * 16)
env = wrap_env(returns)
device = env.device

models = {}
models["policy"] = Policy(env.observation_space, env.state_space, env.action_space, device)
models["value"] = Value(env.observation_space, env.state_space, env.action_space, device)
if framework == "jax":
    for role, model in models.items():
        model.init_state_dict(role=role, key=config.jax.key)

cfg = PPO_CFG()
cfg.rollouts = 256
cfg.learning_epochs = 10
cfg.mini_batches = 16
cfg.discount_factor = 0.9
cfg.learning_rate = 1e-3
cfg.value_loss_scale = 0.5
cfg.observation_preprocessor = RunningStandardScaler
cfg.observation_preprocessor_kwargs = {"size": env.observation_space, "device": device}
cfg.value_preprocessor = RunningStandardScaler
cfg.value_preprocessor_kwargs = {"size": 1, "device": device}
cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0

memory = RandomMemory(memory_size=cfg.rollouts, num_envs=env.num_envs, device=device)
spaces = {"observation_space": env.observation_space, "state_space": env.state_space, "action_space": env.action_space}
agent = PPO(models=models, memory=memory, cfg=cfg, device=device, **spaces)
quiet = {"timesteps": updates * cfg.rollouts, "headless": True, "disable_progressbar": True}
trainer = SequentialTrainer(cfg=quiet, env=env, agents=agent)
start = time.process_time()
trainer.train()
seconds = time.process_time() - start
print(json.dumps([type(models["policy"]).__name__, [float(x) for x in returns.return_queue], seconds]))

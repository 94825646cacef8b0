"""Proximal policy optimisation on Gymnasium environments, and fully compiled on JAX environments."""

from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.ppo.config import Config as Config
from gaussjax.training.ppo.config import Hyperparameters as Hyperparameters
from gaussjax.training.ppo.config import State as State
from gaussjax.training.ppo.config import make_policy as make_policy
from gaussjax.training.ppo.loop import make as make

"""Soft actor-critic on Gymnasium environments, and fully compiled on JAX environments."""

from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.sac.config import Config as Config
from gaussjax.training.sac.config import Learner as Learner
from gaussjax.training.sac.config import State as State
from gaussjax.training.sac.config import Transition as Transition
from gaussjax.training.sac.config import make_policy as make_policy
from gaussjax.training.sac.loop import make as make

"""Behavioural cloning of recorded actions."""

from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.bc.config import Best as Best
from gaussjax.training.bc.config import Config as Config
from gaussjax.training.bc.config import Learner as Learner
from gaussjax.training.bc.config import State as State
from gaussjax.training.bc.config import make_policy as make_policy
from gaussjax.training.bc.loop import make as make

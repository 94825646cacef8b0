"""Behavioural cloning of recorded actions."""

from gaussjax.training.algorithm import Algorithm as Algorithm
from gaussjax.training.bc.loop import Config as Config
from gaussjax.training.bc.loop import Dataset as Dataset
from gaussjax.training.bc.loop import State as State
from gaussjax.training.bc.loop import make as make
from gaussjax.training.bc.loop import make_policy as make_policy
from gaussjax.training.bc.loop import read_dataset as read_dataset

"""Rollouts of a policy: collection of experience, recording and evaluation, on the host or compiled."""

from gaussjax.envs.guard import EnvironmentStepError as EnvironmentStepError
from gaussjax.rollout import compiled as compiled
from gaussjax.rollout.evaluate import evaluate as evaluate
from gaussjax.rollout.host import EpisodeStatistics as EpisodeStatistics
from gaussjax.rollout.host import Rollout as Rollout
from gaussjax.rollout.host import Runner as Runner
from gaussjax.rollout.host import collect as collect
from gaussjax.rollout.record import record as record
from gaussjax.rollout.smoothness import Smoothness as Smoothness
from gaussjax.rollout.smoothness import smoothness as smoothness

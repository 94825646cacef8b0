"""Running a policy in Gymnasium environments: collecting experience, and evaluating."""

from gaussjax.envs.guard import EnvironmentStepError as EnvironmentStepError
from gaussjax.rollout import compiled as compiled
from gaussjax.rollout.evaluate import evaluate as evaluate
from gaussjax.rollout.experience import Rollout as Rollout
from gaussjax.rollout.experience import collect as collect
from gaussjax.rollout.host import Episodes as Episodes
from gaussjax.rollout.host import Runner as Runner

"""Running a policy in Gymnasium environments: collecting experience, and evaluating."""

from gaussjax.environment_faults import EnvironmentStepError as EnvironmentStepError
from gaussjax.rollout.evaluation import evaluate as evaluate
from gaussjax.rollout.experience import Rollout as Rollout
from gaussjax.rollout.experience import collect as collect
from gaussjax.rollout.runner import Episodes as Episodes
from gaussjax.rollout.runner import Runner as Runner

"""Training runs in a folder: the loop, checkpoints, results and reports."""

from gaussjax.training.run.loop import HeldError as HeldError
from gaussjax.training.run.loop import Resumed as Resumed
from gaussjax.training.run.loop import TrainingError as TrainingError
from gaussjax.training.run.loop import hold as hold
from gaussjax.training.run.loop import read_options as read_options
from gaussjax.training.run.loop import refuse_held as refuse_held
from gaussjax.training.run.loop import restore as restore
from gaussjax.training.run.loop import start as start
from gaussjax.training.run.loop import train as train
from gaussjax.training.run.output_files import CONFIG as CONFIG
from gaussjax.training.run.output_files import INITIAL as INITIAL
from gaussjax.training.run.output_files import METRICS as METRICS
from gaussjax.training.run.output_files import POLICY as POLICY

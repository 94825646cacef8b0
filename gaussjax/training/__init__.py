"""Training loops for PPO, SAC and behavioural cloning."""

from gaussjax.training import bc as bc
from gaussjax.training import ppo as ppo
from gaussjax.training import sac as sac
from gaussjax.training.evaluating import evaluating as evaluating
from gaussjax.training.parallel import mesh as mesh
from gaussjax.training.reporting import reporting as reporting

"""Training loops that prove the policy on real environments."""

from gaussjax.training import bc as bc
from gaussjax.training import ppo as ppo
from gaussjax.training import sac as sac
from gaussjax.training.parallel import sharding as sharding

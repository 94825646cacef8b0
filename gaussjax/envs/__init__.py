"""Adapters for Gymnasium, brax and gymnax, and the record of an environment as pure JAX functions."""

from gaussjax.envs.brax import from_brax as from_brax
from gaussjax.envs.check import check as check
from gaussjax.envs.environment import Environment as Environment
from gaussjax.envs.environment import Step as Step
from gaussjax.envs.environment import repeated as repeated
from gaussjax.envs.functional import from_functional as from_functional
from gaussjax.envs.gymnax import from_gymnax as from_gymnax
from gaussjax.envs.make import PACKAGES as PACKAGES
from gaussjax.envs.make import make as make
from gaussjax.envs.make import make_functional as make_functional
from gaussjax.envs.make import make_vector as make_vector
from gaussjax.envs.wrappers import action_delay as action_delay
from gaussjax.envs.wrappers import action_noise as action_noise
from gaussjax.envs.wrappers import frame_stack as frame_stack
from gaussjax.envs.wrappers import observation_delay as observation_delay
from gaussjax.envs.wrappers import observation_noise as observation_noise

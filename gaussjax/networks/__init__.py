"""Policy networks as Flax modules: observations to (mean, log_std, outputs)."""

from gaussjax.networks.actor_critic import ActorCritic as ActorCritic
from gaussjax.networks.heads import GaussianHead as GaussianHead
from gaussjax.networks.layers import ACTIVATIONS as ACTIVATIONS
from gaussjax.networks.mlp import MLP as MLP
from gaussjax.networks.spec import from_spec as from_spec

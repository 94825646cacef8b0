"""Training loops that prove the policy on real environments."""

from gaussjax.training import ppo as ppo

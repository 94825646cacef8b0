"""The policies of gaussjax in PyTorch, with the same names, results and random numbers."""

from gaussjax.policy.serve import serve as serve
from gaussjax.policy.strict import strict as strict
from gaussjax.torch import arrays as arrays
from gaussjax.torch import random as random
from gaussjax.torch.convert import to_flax as to_flax
from gaussjax.torch.convert import to_torch as to_torch
from gaussjax.torch.policy import from_spec as from_spec
from gaussjax.torch.policy import gaussian as gaussian
from gaussjax.torch.policy import multivariate_gaussian as multivariate_gaussian
from gaussjax.torch.policy import squashed_gaussian as squashed_gaussian
from gaussjax.torch.policy import truncated_gaussian as truncated_gaussian
from gaussjax.torch.policy_file import load as load
from gaussjax.torch.policy_file import save as save
from gaussjax.torch.random import from_jax as from_jax
from gaussjax.torch.random import key as key
from gaussjax.torch.random import normal as normal
from gaussjax.torch.random import split as split

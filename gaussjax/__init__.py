"""The Gaussian policy of continuous-control reinforcement learning, as pure JAX functions."""

from gaussjax import distributions as distributions
from gaussjax import networks as networks
from gaussjax import normalize as normalize
from gaussjax import spaces as spaces
from gaussjax.artifact import Loaded as Loaded
from gaussjax.artifact import PolicyFileError as PolicyFileError
from gaussjax.artifact import load as load
from gaussjax.artifact import save as save
from gaussjax.factories import from_spec as from_spec
from gaussjax.factories import gaussian as gaussian
from gaussjax.factories import multivariate_gaussian as multivariate_gaussian
from gaussjax.factories import squashed_gaussian as squashed_gaussian
from gaussjax.policy import ActOutput as ActOutput
from gaussjax.policy import EvaluateOutput as EvaluateOutput
from gaussjax.policy import Policy as Policy
from gaussjax.policy import Spec as Spec
from gaussjax.serving import serve as serve
from gaussjax.strictness import strict as strict

__version__ = "0.1.0"

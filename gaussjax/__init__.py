"""The Gaussian policy of continuous-control reinforcement learning, as pure JAX functions."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"]:
    # While `python -m gaussjax.cli.main` imports the package, this module answers a Ctrl-C.
    import gaussjax_command as gaussjax_command

import jax

if jax.__version_info__ < (0, 7):
    # Another package may have replaced jax after pip installed gaussjax.
    raise ImportError(f"jax: expected version 0.7 or newer, got {jax.__version__}. pip install --upgrade jax jaxlib")

from gaussjax import distributions as distributions
from gaussjax import exploration as exploration
from gaussjax import networks as networks
from gaussjax import normalize as normalize
from gaussjax import spaces as spaces
from gaussjax.files import Loaded as Loaded
from gaussjax.files import PolicyFileError as PolicyFileError
from gaussjax.files import load as load
from gaussjax.files import save as save
from gaussjax.policy import ActOutput as ActOutput
from gaussjax.policy import EvaluateOutput as EvaluateOutput
from gaussjax.policy import Policy as Policy
from gaussjax.policy import Spec as Spec
from gaussjax.policy.from_spec import from_spec as from_spec
from gaussjax.policy.from_spec import gaussian as gaussian
from gaussjax.policy.from_spec import multivariate_gaussian as multivariate_gaussian
from gaussjax.policy.from_spec import squashed_gaussian as squashed_gaussian
from gaussjax.policy.from_spec import truncated_gaussian as truncated_gaussian
from gaussjax.policy.serve import serve as serve
from gaussjax.policy.strict import strict as strict

__version__ = "0.1.0"

# Rooms that load when they are first used, because they take time or need other packages.
_LATER = ("data", "envs", "export", "interop", "rollout", "torch", "training")

if not TYPE_CHECKING:  # Type checkers would accept every name.

    def __getattr__(name: str) -> Any:
        if name in _LATER:
            return importlib.import_module(f"gaussjax.{name}")
        raise AttributeError(f"module 'gaussjax' has no attribute {name!r}")

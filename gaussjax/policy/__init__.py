"""Policies: records of pure functions, made from a network and a distribution."""

from gaussjax.policy.backend import Backend as Backend
from gaussjax.policy.build import build as build
from gaussjax.policy.from_spec import from_spec as from_spec
from gaussjax.policy.gaussian import gaussian as gaussian
from gaussjax.policy.multivariate import multivariate_gaussian as multivariate_gaussian
from gaussjax.policy.policy import ActOutput as ActOutput
from gaussjax.policy.policy import EvaluateOutput as EvaluateOutput
from gaussjax.policy.policy import Kind as Kind
from gaussjax.policy.policy import Params as Params
from gaussjax.policy.policy import Policy as Policy
from gaussjax.policy.policy import Spec as Spec
from gaussjax.policy.serve import serve as serve
from gaussjax.policy.squashed import squashed_gaussian as squashed_gaussian
from gaussjax.policy.strict import strict as strict
from gaussjax.policy.truncated import truncated_gaussian as truncated_gaussian

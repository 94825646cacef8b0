"""The policy: a network and a distribution as a record of pure functions."""

from gaussjax.policy.backend import Backend as Backend
from gaussjax.policy.functions import Kind as Kind
from gaussjax.policy.functions import build as build
from gaussjax.policy.records import ActOutput as ActOutput
from gaussjax.policy.records import EvaluateOutput as EvaluateOutput
from gaussjax.policy.records import Params as Params
from gaussjax.policy.records import Policy as Policy
from gaussjax.policy.records import Spec as Spec

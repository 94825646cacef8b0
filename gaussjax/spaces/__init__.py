"""Observation and action spaces as frozen classes with the sizes, bounds and structure that a policy needs."""

from gaussjax.spaces.arrays import Observations as Observations
from gaussjax.spaces.arrays import bounds as bounds
from gaussjax.spaces.arrays import cast as cast
from gaussjax.spaces.arrays import flatten as flatten
from gaussjax.spaces.arrays import size as size
from gaussjax.spaces.arrays import zeros as zeros
from gaussjax.spaces.description import from_dict as from_dict
from gaussjax.spaces.description import to_dict as to_dict
from gaussjax.spaces.kinds import Box as Box
from gaussjax.spaces.kinds import Dict as Dict
from gaussjax.spaces.kinds import Discrete as Discrete
from gaussjax.spaces.kinds import MultiDiscrete as MultiDiscrete
from gaussjax.spaces.kinds import Space as Space
from gaussjax.spaces.kinds import Tuple as Tuple
from gaussjax.spaces.kinds import action_box as action_box
from gaussjax.spaces.kinds import as_space as as_space

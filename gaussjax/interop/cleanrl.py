"""Policies of CleanRL's `ppo_continuous_action` as gaussjax policies.

Nothing in a file is executed::

    loaded = gaussjax.interop.cleanrl.read("ppo_continuous_action.cleanrl_model", action_space=env.action_space)
    actions = loaded.act(observations).actions
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gaussjax import normalize, spaces
from gaussjax.core import untrusted
from gaussjax.core.text import quoted
from gaussjax.files import Loaded
from gaussjax.interop import archives, converted, pickles
from gaussjax.interop.converted import CheckpointError as CheckpointError
from gaussjax.interop.converted import fault
from gaussjax.networks import ACTIVATIONS
from gaussjax.policy.from_spec import gaussian

_LIBRARY = "CleanRL"
_REPAIR = "Pass the state_dict of the agent of ppo_continuous_action, a file *.cleanrl_model."
_KNOWN = r"actor_mean\.\d+\.(weight|bias)|actor_logstd"
_REASONS = {r"actor\.|network\.": "one of discrete actions or images", r"fc": "another algorithm, such as SAC"}


def read(
    path: str | os.PathLike[str],
    *,
    activation: str = "tanh",
    action_space: Any = None,
    statistics: normalize.Normalizer = None,
) -> Loaded:
    """Reads the agent of CleanRL's `ppo_continuous_action` as a policy.

    CleanRL's wrappers clip actions and normalise observations outside of the file. The deterministic action is the
    clipped mean; CleanRL itself always samples.

    Args:
        path: Path of a file `*.cleanrl_model`.
        activation: Name of the activation, of `gaussjax.networks.ACTIVATIONS`.
        action_space: The Box to which the wrapper clips actions, or (low, high). None clips nothing.
        statistics: Statistics of `gaussjax.normalize` with those of Gymnasium's NormalizeObservation, such as
            `Statistics(count, mean, var * count, clip=10.0)`; or None for observations that were not normalised.

    Returns:
        The policy, its parameters, the observation statistics and metadata.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, would run code, or holds another agent.
        ValueError: An argument contradicts the shapes in the file.

    Example:
        >>> import numpy as np, tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "agent.cleanrl_model"
        >>> layer = {"actor_mean.0.weight": torch.ones(1, 3), "actor_mean.0.bias": torch.zeros(1)}
        >>> torch.save({**layer, "actor_logstd": torch.zeros(1, 1)}, path)
        >>> read(path, action_space=(-2.0, 2.0)).act(np.ones(3)).actions
        Array([2.], dtype=float32)
    """
    path = Path(path)
    name = converted.named_activation(activation, {name: name for name in ACTIVATIONS})
    normalize.check(statistics, "statistics")
    with converted.opened(path, _LIBRARY, _REPAIR) as (file, size):
        content = archives.read_torch(file, size)
        untrusted.refuse_large(content, converted.MOST_ENTRIES, untrusted.budget(size))
        arrays = {
            name: array
            for name, array in converted.floats(path, pickles.expect(content, dict), size).items()
            if not name.startswith(("critic.", "critic_"))
        }
        converted.refuse_unknown(path, list(arrays), _KNOWN, _REASONS, _LIBRARY)
        layers = converted.torch_layers(path, arrays, "actor_mean.")
        if not layers or "actor_logstd" not in arrays:
            raise fault(path, "the arrays actor_mean.0.weight, …, and actor_logstd", quoted(list(arrays)), _REPAIR)
    *hidden, mean = layers
    network, params = converted.mlp(hidden, name, mean, arrays["actor_logstd"].reshape(-1))
    width = layers[0].kernel.shape[0]
    if isinstance(statistics, normalize.Statistics) and statistics.mean.shape != (width,):
        raise ValueError(
            f"statistics: expected those of {width} observations, the input width in {path}, got the shape "
            f"{tuple(statistics.mean.shape)}."
        )
    options: dict[str, Any] = {"clip_log_std": False}
    if action_space is not None:
        options |= {"clip_actions": True, "clipped_log_prob": "unclipped"}
    given = None if statistics is None else "given"
    return converted.loaded(
        path,
        _LIBRARY,
        gaussian,
        network,
        params,
        spaces.Box(shape=(width,)),
        converted.box(action_space, mean.kernel.shape[1], path),
        {"activation": activation, "action_space": action_space, "statistics": given},
        statistics,
        **options,
    )

"""skrl's PPO in the form of its examples on Pendulum-v1, with its own models and with those of the migration page."""

from __future__ import annotations

import contextlib
import importlib
import runpy
import sys
import tempfile
from pathlib import Path

from benchmarks.worker import Built
from tests.parity.peer import HERE, moved

__all__ = ["hardware", "inside"]

_SCRIPT = "skrl_pendulum.py"


def hardware(device: str) -> str:
    return device


def inside(device: str, part: str, framework: str, ours: bool) -> Built:
    """An update with its rollout, or, outside of an agent, actions and values of the environments' observations."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / _SCRIPT
        script.write_text(moved(framework)[0] if ours else (HERE / _SCRIPT).read_text())
        sys.argv = [_SCRIPT, framework, "0", "0"]
        made = runpy.run_path(str(script))
    if part == "update":
        options = {**made["quiet"], "timesteps": made["cfg"].rollouts}
        return Built(made["SequentialTrainer"](cfg=options, env=made["env"], agents=made["agent"]).train, [0.0])
    models, given = made["models"], {"observations": made["env"].reset()[0], "states": None}
    for model in models.values():
        # Only skrl's agents compile the models of JAX; without an agent each operation runs on its own.
        vars(model).pop("apply", None)
    without_gradients = importlib.import_module("torch").no_grad if framework == "torch" else contextlib.nullcontext

    def act() -> float:
        with without_gradients():
            actions, _ = models["policy"].act(dict(given), role="policy")
            value, _ = models["value"].act(dict(given), role="value")
        return float(actions[0, 0] + value[0, 0])

    return Built(act, [0.0])

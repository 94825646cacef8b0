"""Policy files of the earlier version load and act as they did when they were written."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import gaussjax

FOLDER = Path(__file__).parent / "format_1"
ACTED = json.loads((FOLDER / "acted.json").read_text(encoding="utf-8"))


def arrays(record):
    """Observations of a record, which holds the data and the dtype of each array."""
    if set(record) == {"data", "dtype"}:
        return np.array(record["data"], record["dtype"])
    return {name: arrays(part) for name, part in record.items()}


# One row for each way in which a file describes arrays. The slow tests load all files.
FEW = ("gaussian_mlp", "squashed_state", "multivariate", "actor_critic_gru")
ROWS = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in ACTED]


@pytest.mark.parametrize("name", ROWS)
def test_a_file_of_format_1_acts_as_it_did(name):
    loaded, record = gaussjax.load(FOLDER / f"{name}.safetensors"), ACTED[name]
    policy, observations, noise = loaded.policy, arrays(record["observations"]), np.array(record["noise"], np.float32)
    carry = policy.initial_carry((len(noise),))

    @jax.jit
    def both(params):
        act = functools.partial(policy.act, params, None, observations, carry=carry)
        return act(noise=noise), act(deterministic=True)

    (actions, log_prob, _), deterministic = both(loaded.params)
    for found, name_ in ((actions, "actions"), (log_prob, "log_prob"), (deterministic.actions, "deterministic")):
        np.testing.assert_allclose(found, record[name_], rtol=1e-6, atol=1e-6)
    assert loaded.metadata["environment"] == "Pendulum-v1"
    assert (loaded.normalizer is not None) == (name in ("gaussian_mlp", "actor_critic_gru"))


def test_every_file_of_format_1_is_tested():
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(ACTED)
    assert len(ACTED) == 11

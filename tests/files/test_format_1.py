"""Policy files of the earlier version load and act as they did when they were written."""

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


@pytest.mark.parametrize("name", ACTED)
def test_a_file_of_format_1_acts_as_it_did(name):
    loaded, record = gaussjax.load(FOLDER / f"{name}.safetensors"), ACTED[name]
    policy, observations, noise = loaded.policy, arrays(record["observations"]), np.array(record["noise"], np.float32)
    recurrent = jax.tree.leaves(policy.initial_carry())
    memory = {"carry": policy.initial_carry((len(noise),))} if recurrent else {}
    actions, log_prob, _ = policy.act(loaded.params, None, observations, noise=noise, **memory)
    deterministic = policy.act(loaded.params, None, observations, deterministic=True, **memory).actions
    close = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(actions, record["actions"], **close)
    np.testing.assert_allclose(log_prob, record["log_prob"], **close)
    np.testing.assert_allclose(deterministic, record["deterministic"], **close)
    assert loaded.metadata["environment"] == "Pendulum-v1"
    assert (loaded.normalizer is not None) == (name in ("gaussian_mlp", "actor_critic_gru"))


def test_every_file_of_format_1_is_tested():
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(ACTED)
    assert len(ACTED) == 11

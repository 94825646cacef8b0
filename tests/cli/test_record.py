"""The command record: its files are read, cloned and never overwritten."""

import shlex

import jax
import numpy as np
import pytest

import gaussjax
from gaussjax import data, rollout
from gaussjax.cli import main as cli
from gaussjax.cli import record
from gaussjax.cli.options import EVALUATION_SEED, named_values
from tests.cli.test_errors import refused

BOX = gaussjax.spaces.Box(-2.0, 2.0, (1,))


@pytest.fixture
def policy(tmp_path, monkeypatch):
    """A policy file in the working folder, and the policy with its parameters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    policy = gaussjax.gaussian(gaussjax.networks.MLP((8,)), 3, BOX, clip_actions=True, clipped_log_prob="unclipped")
    params = policy.init(jax.random.key(0))
    metadata = {"environment": "Pendulum-v1", "environment_options": {"max_steps": 50}}
    gaussjax.save("policy.safetensors", policy, params, metadata=metadata)
    return policy, params


@pytest.mark.parametrize("place", ["my recorded.npz", "recorded.hdf5", "minari:pendulum/test-v0"])
@pytest.mark.parametrize("options", [[], ["--stochastic"], ["--stochastic", "--hold", "8", "--exploration", "held"]])
def test_recorded_files_hold_the_episodes_of_the_policy(policy, capsys, place, options):
    name = place.removeprefix("minari:")
    kind = "--out" if name == place else "--minari"
    line = ["record", "policy.safetensors", "--episodes", "3", *options, kind, name]
    cli.main(line)
    said = " ".join(capsys.readouterr().out.split())
    sampled = "sampled" if options else "deterministic"
    found = data.read_dataset(place, 3, BOX)
    assert np.flatnonzero(found.starts).tolist() == [0, 50, 100]
    assert np.flatnonzero(found.truncated).tolist() == [49, 99, 149]
    returns = np.add.reduceat(found.rewards, [0, 50, 100], dtype=float)
    assert f"{place}: 3 episodes of Pendulum-v1, 150 steps, mean return {returns.mean():.1f} ({sampled} " in said
    following = f"gaussjax train bc Pendulum-v1 --dataset {shlex.quote(place)} --environment-options max_steps=50"
    assert f"next: {following}" in said
    if "--hold" not in options:
        expected = rollout.evaluate(
            *policy, "Pendulum-v1", episodes=3, seed=3 * EVALUATION_SEED, deterministic=not options,
            environment_options={"max_steps": 50},
        )  # fmt: skip
        np.testing.assert_allclose(returns, expected.returns, rtol=1e-5)
    assert "exists. Name another" in refused(capsys, *line)


def test_uniform_actions_are_recorded_on_the_host_and_in_jax(policy, capsys):
    for backend in ("gymnasium", "jax"):
        path = f"{backend}.npz"
        chosen = ["--environment-options", "max_steps=20", f"backend={backend}"]
        cli.main(["record", "--uniform", "Pendulum-v1", *chosen, "--episodes", "2", "--out", path])
        found = data.read_dataset(path, 3, BOX)
        assert len(found.actions) == 40
        assert len(np.unique(found.actions)) == 40
    printed = " ".join(capsys.readouterr().out.split())
    assert f"--dataset jax.npz {' '.join(chosen)}" in printed


@pytest.mark.parametrize("value", [500, 0.5, True, None, [1, 2], "spring", "2", "None", "true", '"text"', ""])
def test_options_of_environments_are_printed_as_they_are_read(value):
    assert named_values([record._word("name", value)]) == {"name": value}


def test_constants_of_environment_options_may_be_spelled_as_in_python():
    words = ["a=True", "b=False", "c=None", 'd="None"', "e=true", "f=null", "g=Nones"]
    expected = {"a": True, "b": False, "c": None, "d": "None", "e": True, "f": None, "g": "Nones"}
    assert named_values(words) == expected


@pytest.mark.slow
def test_a_recorded_file_is_cloned_by_the_command_that_is_printed(policy, capsys):
    cli.main(["record", "policy.safetensors", "--episodes", "3", "--out", "recorded.npz"])
    following = capsys.readouterr().out.rpartition("next: gaussjax ")[2].split()
    small = ["--batch-size", "32", "--evaluation-episodes", "1", "--out", "cloned"]
    cli.main([*following, *small])
    assert "mean return" in capsys.readouterr().out

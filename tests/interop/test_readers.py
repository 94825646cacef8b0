"""Checkpoints of other libraries give policies with the libraries' own actions and log-densities."""

import pickle
import re
import shutil

import jax
import numpy as np
import pytest
import torch

import gaussjax
import gaussjax.export
import gaussjax.torch
from gaussjax.export import numpy_act
from gaussjax.interop import brax, cleanrl, rsl_rl
from tests.interop import checkpoints

IDS = [case.name for case in checkpoints.CASES]
ROWS = [
    pytest.param(case.library, case.name, id=case.name, marks=() if case.quick else pytest.mark.slow)
    for case in checkpoints.CASES
]
# Rows of each kind of network and of distribution, for the longer tests.
FEW = ("rsl_rl_5.5.1_lstm.pt", "sb3_ppo_gsde_squashed.zip")
LONGER = [
    pytest.param(case.library, case.name, id=case.name, marks=() if case.name in FEW else pytest.mark.slow)
    for case in checkpoints.CASES
]


def initial(loaded, observations):
    """Returns the first carry for one step of observations `(T, N, …)`, or ()."""
    batch = () if isinstance(observations, dict) else observations.shape[1:2]
    return loaded.initial_carry(batch)


@pytest.mark.parametrize(("library", "name"), ROWS)
def test_actions_and_densities_are_those_of_the_library(library, name):
    loaded = checkpoints.read(library, name)
    numbers = checkpoints.numbers(library, name, loaded)
    policy, params, normalizer, metadata = loaded

    def act(observations, _, carry):
        result = loaded.act(observations, carry=carry)
        return result.actions, result.outputs.get("carry")

    def score(observations, samples, carry):
        normalised = observations if normalizer is None else gaussjax.normalize.apply(normalizer, observations)
        log_prob, _, outputs = policy.evaluate(params, normalised, raw_actions=samples, carry=carry)
        return log_prob[..., 0], outputs.get("carry")

    carry = initial(loaded, numbers.observations)
    np.testing.assert_allclose(checkpoints.play(act, carry, numbers), numbers.actions, rtol=0, atol=1e-6)
    np.testing.assert_allclose(checkpoints.play(score, carry, numbers), numbers.log_prob, rtol=0, atol=1e-5)
    assert metadata["library"] in ("rsl_rl", "Stable-Baselines3", "SBX", "brax")


@pytest.mark.parametrize("name", [name for name in IDS if "gsde" in name])
def test_matrices_of_noise_give_the_samples_of_stable_baselines3(name):
    policy, params, _, _ = checkpoints.read("sb3", name)
    with np.load(checkpoints.folder("sb3") / name.replace(".zip", ".npz")) as numbers:
        found = policy.act(params, None, numbers["observations"], noise=numbers["matrices"])
        assert policy.noise_shape == numbers["matrices"].shape[1:]
        distribution = policy.distribution(found.outputs)
        normal = getattr(distribution, "base", distribution)
        given = {
            "explored": found.outputs["raw_actions"],
            "normal_log_prob": normal.log_prob(numbers["explored"]),
            "normal_entropy": normal.entropy(),
        }
        for what, array in given.items():
            np.testing.assert_allclose(array, numbers[what], rtol=0, atol=1e-5, err_msg=what)


@pytest.mark.parametrize(("library", "name"), LONGER)
def test_files_torch_and_numpy_programs_act_as_the_library(library, name, tmp_path):
    loaded = checkpoints.read(library, name)
    numbers = checkpoints.numbers(library, name, loaded)
    file = tmp_path / "policy.safetensors"
    policy, params, normalizer, metadata = loaded
    gaussjax.save(file, policy, params, normalizer=normalizer, metadata=metadata)
    again = gaussjax.load(file)
    assert again.policy.spec == policy.spec
    assert again.metadata["assumptions"].keys() == metadata["assumptions"].keys()
    twin = gaussjax.torch.load(file)

    def in_torch(observations, _, carry):
        result = twin.act(jax.tree.map(torch.as_tensor, observations), carry=carry)
        return result.actions.detach(), result.outputs.get("carry")

    carry = twin.initial_carry(()) and twin.initial_carry(numbers.observations.shape[1:2])
    np.testing.assert_allclose(checkpoints.play(in_torch, carry, numbers), numbers.actions, rtol=0, atol=1e-6)

    def scored_in_torch(observations, samples, carry):
        seen = jax.tree.map(torch.as_tensor, observations)
        seen = seen if twin.normalizer is None else gaussjax.normalize.apply(twin.normalizer, seen)
        options = {"raw_actions": torch.as_tensor(samples)} | ({} if carry is None else {"carry": carry})
        log_prob, _, outputs = twin.policy.evaluate(twin.params, seen, **options)
        return log_prob[..., 0].detach(), outputs.get("carry")

    np.testing.assert_allclose(checkpoints.play(scored_in_torch, carry, numbers), numbers.log_prob, rtol=0, atol=1e-5)
    gaussjax.export.numpy(tmp_path / "policy.npz", policy, params, normalizer=normalizer)
    program = numpy_act.load(tmp_path / "policy.npz")

    def in_numpy(observations, _, carry):
        inputs = {"observations": observations} if not isinstance(observations, dict) else {}
        inputs |= {f"observations_{key}": part for key, part in observations.items()} if not inputs else {}
        if carry is not None:
            inputs |= {f"carry_{i}": part for i, part in enumerate(carry)} | {
                "resets": np.zeros(len(observations), bool)
            }
        outputs = program(**inputs)
        return outputs["actions"], [outputs[key] for key in sorted(outputs) if key.startswith("next_carry")]

    leaves = jax.tree.leaves(initial(loaded, numbers.observations))
    found = checkpoints.play(in_numpy, [np.asarray(leaf) for leaf in leaves], numbers)
    np.testing.assert_allclose(found, numbers.actions, rtol=0, atol=1e-6)


def saved(content, path):
    torch.save(content, path)
    return path


class Agent(torch.nn.Module):
    """The modules of the agent of CleanRL's ppo_continuous_action."""

    def __init__(self):
        super().__init__()
        self.critic = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        layers = torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
        self.actor_mean = torch.nn.Sequential(*layers)
        self.actor_logstd = torch.nn.Parameter(torch.tensor([[-0.5, 0.25]]))


def test_an_agent_of_cleanrl_acts_as_in_torch(tmp_path):
    torch.manual_seed(0)
    agent = Agent()
    path = saved(agent.state_dict(), tmp_path / "agent.cleanrl_model")
    mean, variance = np.float64([0.5, -1.0, 3.0]), np.float64([4.0, 0.25, 1.0])
    statistics = gaussjax.normalize.Statistics(100.0, mean, variance * 100.0, clip=10.0)
    loaded = cleanrl.read(path, action_space=(-0.1, 0.1), statistics=statistics)
    observations = np.random.default_rng(0).normal(size=(5, 3)) * 20
    seen = torch.as_tensor(np.clip((observations - mean) / np.sqrt(variance + 1e-8), -10, 10), dtype=torch.float32)
    expected = agent.actor_mean(seen).detach()
    np.testing.assert_allclose(loaded.act(observations).actions, expected.clamp(-0.1, 0.1), rtol=0, atol=1e-6)
    samples = expected + 1.0
    log_prob = torch.distributions.Normal(expected, agent.actor_logstd.exp().detach()).log_prob(samples).sum(-1)
    normalised = gaussjax.normalize.apply(loaded.normalizer, observations)
    found = loaded.policy.evaluate(loaded.params, normalised, raw_actions=samples.numpy()).log_prob[:, 0]
    np.testing.assert_allclose(found, log_prob, rtol=0, atol=1e-5)
    assert loaded.metadata["assumptions"] == {"activation": "tanh", "action_space": (-0.1, 0.1), "statistics": "given"}


def test_groups_of_observations_and_a_wrappers_clip_of_rsl_rl():
    path = checkpoints.folder("rsl_rl") / "rsl_rl_5.5.1_elu.pt"
    numbers = checkpoints.numbers("rsl_rl", path.name, checkpoints.read("rsl_rl", path.name))
    grouped = rsl_rl.read(path, observation_groups={"joints": 3, "goal": 2}, clip_actions=0.05)
    observations = {"joints": numbers.observations[..., :3], "goal": numbers.observations[..., 3:]}
    expected = numbers.actions.clip(-0.05, 0.05)
    np.testing.assert_allclose(grouped.act(observations).actions, expected, rtol=0, atol=1e-6)
    limited = rsl_rl.read(path, std_range=(0.5, 1.0))
    found = np.exp(limited.policy.log_std(limited.params, np.zeros((1, 5), np.float32)))
    np.testing.assert_allclose(found, [[0.5, 1.0]], rtol=1e-6)


LAYER = {"mlp.0.weight": torch.ones(2, 3), "mlp.0.bias": torch.zeros(2)}
# Error, options and the content of a file of rsl_rl.
UNFIT_RSL_RL = {
    "activation: expected one of": ({"activation": "eluu"}, {"actor_state_dict": {**LAYER, "std": torch.ones(2)}}),
    "action_space: expected a Box of the 2 actions": (
        {"action_space": (-np.ones(3), 1.0)},
        {"actor_state_dict": {**LAYER, "std": torch.ones(2)}},
    ),
    "observation_groups: expected widths whose sum is 3": (
        {"observation_groups": {"a": 2}},
        {"actor_state_dict": {**LAYER, "std": torch.ones(2)}},
    ),
    "std_range: expected 0 <= lowest < highest": (
        {"std_range": (1.0, 0.1)},
        {"actor_state_dict": {**LAYER, "std": torch.ones(2)}},
    ),
    "state_dependent_std: expected 'scalar' or 'log'": ({}, {"actor_state_dict": LAYER}),
    "A Beta policy is not converted": ({"state_dependent_std": "beta"}, {"actor_state_dict": LAYER}),
    "expected standard deviations above 0, got [1.0, 0.0]": (
        {},
        {"actor_state_dict": {**LAYER, "std": torch.tensor([1.0, 0.0])}},
    ),
    "one that sees images (cnns)": ({}, {"actor_state_dict": {**LAYER, "cnns.camera.0.weight": torch.ones(2)}}),
    "a distillation (student and teacher)": ({}, {"student_state_dict": LAYER}),
    "expected a policy of PPO, got a distillation": ({}, {"model_state_dict": {"student.0.weight": torch.ones(2)}}),
    "NaN or infinities in ['std']": ({}, {"actor_state_dict": {**LAYER, "std": torch.tensor([1.0, np.nan])}}),
    "expected layers mlp. that fit together": (
        {},
        {"actor_state_dict": {**LAYER, "mlp.2.weight": torch.ones(2, 4), "mlp.2.bias": torch.ones(2)}},
    ),
    "which would run code": ({}, {"actor_state_dict": LAYER, "infos": {"reward": np.float64(1.0)}}),
}


@pytest.mark.parametrize(("error", "case"), UNFIT_RSL_RL.items(), ids=UNFIT_RSL_RL)
def test_arguments_and_files_of_rsl_rl_that_do_not_fit_are_named(error, case, tmp_path):
    options, content = case
    with pytest.raises(ValueError, match=re.escape(error)):
        rsl_rl.read(saved(content, tmp_path / "model.pt"), **options)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "policy.pt"))
    with pytest.raises(rsl_rl.CheckpointError, match="TorchScript"):
        rsl_rl.read(tmp_path / "policy.pt")


def test_settings_that_brax_needs_or_that_contradict_its_file_are_named(tmp_path):
    place = checkpoints.folder("brax")
    for error, name, options in (
        ("normalize_observations: expected True or False", "brax_ppo.pickle", {}),
        ("activation: expected a name", "brax_sac.pickle", {"normalize_observations": True}),
        ("noise_std_type: expected 'log'", "brax_ppo_state.pickle", {"normalize_observations": True}),
        (
            "observation_key: expected one of",
            "brax_ppo_scalar.pickle",
            {"normalize_observations": True, "observation_key": "a"},
        ),
        ("activation: expected 'silu'", "brax_ppo/000000001000", {"activation": "relu"}),
        ("Name the folder of a step: ['000000001000']", "brax_ppo", {}),
    ):
        with pytest.raises(ValueError, match=re.escape(error)):
            brax.read(place / name, **options)
    copy = tmp_path / "step"
    shutil.copytree(place / "brax_ppo/000000001000", copy)
    (copy / "manifest.ocdbt").write_bytes(b"damaged")
    with pytest.raises(brax.CheckpointError, match="tensorstore"):
        brax.read(copy)
    (tmp_path / "bomb.pickle").write_bytes(pickle.dumps(print))
    with pytest.raises(brax.CheckpointError, match=r"a reference to builtins\.print, which would run code"):
        brax.read(tmp_path / "bomb.pickle", normalize_observations=True)

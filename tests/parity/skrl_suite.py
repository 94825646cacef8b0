"""Runs skrl's own tests of agents and models with our models in place of those with its mixins; run by skrl's Python.

Usage: python skrl_suite.py FOLDER RESULTS.md [FILE …]

The folder is a checkout of github.com/Toni-SM/skrl. A file is one of `FILES`, and all of them run by default.
The page keeps the rows of files that a run leaves out.
"""

import importlib
import platform
import re
import sys
from collections import Counter
from pathlib import Path

import jax
import pytest
import skrl
import torch
from skrl.envs.wrappers import jax as jax_wrappers
from skrl.envs.wrappers import torch as torch_wrappers
from skrl.utils import model_instantiators
from skrl.utils.model_instantiators import jax as in_jax
from skrl.utils.model_instantiators import torch as in_torch

import gaussjax
from gaussjax.interop.skrl import jax_model, torch_model

AGENTS = {"torch": "a2c amp ddpg ppo rpo sac td3 trpo", "jax": "a2c ddpg ppo rpo sac td3"}
FILES = [
    *(f"agents/{framework}/test_{name}.py" for framework, names in AGENTS.items() for name in names.split()),
    *(f"multi_agents/{framework}/test_{name}.py" for framework in AGENTS for name in ("ippo", "mappo")),
    *(f"utils/model_instantiators/{framework}/test_models.py" for framework in AGENTS),
]
# Tests that cannot apply, by their names, and the reason.
NOT_APPLICABLE = {
    r"trpo .*Multivariate.*": "TRPO's divergence has no correlations, so their parameters would have no gradient",
    r".*[Cc]ategorical.*": "a categorical model has no Gaussian",
    r".*tabular.*": "a table has no Gaussian",
    r".*cuda.*": "needs a GPU",
}
TOKENS = {"OBSERVATIONS": "observations", "STATES": "states", "ACTIONS": "taken_actions"}
KINDS = {"GaussianMixin": gaussjax.gaussian, "MultivariateGaussianMixin": gaussjax.multivariate_gaussian}
OPTIONS = ("clip_actions", "clip_mean_actions", "clip_log_std", "min_log_std", "max_log_std", "reduction")
drawn = iter(range(2**31))


def graph(network, spaces, **options):
    """Our graph of skrl's description of a network, and the observation space of the inputs that it names."""
    nodes, used = [], set()
    for node in network:
        text = str(node["input"])
        used |= {token for token in TOKENS if token in text}
        for token, name in TOKENS.items():
            text = text.replace(token, f"observations['{name}']")
        nodes.append({**node, "input": text})
    return gaussjax.networks.Graph(nodes, **options), {TOKENS[token]: spaces[token] for token in used}


def model(framework, factory, descriptions, spaces, device, deterministic):
    """Our model of one network, or of an actor and a critic."""
    first, *rest = descriptions
    width = gaussjax.spaces.size(spaces["ACTIONS"]) if first.get("output", "") == "ACTIONS" else 1
    std = "fixed" if first.get("fixed_log_std") else "parameter"
    network, observed = graph(
        first["network"],
        spaces,
        output_activation=None,
        initial_log_std=first.get("initial_log_std", 0.0),
        std=std,
    )
    for other in rest:
        critic, more = graph(other["network"], spaces)
        network, observed = gaussjax.networks.ActorCritic(network, critic=critic), observed | more
    box = gaussjax.spaces.Box(shape=(width,)) if width == 1 else spaces["ACTIONS"]
    options = {name: first[name] for name in OPTIONS if name in first}
    policy = factory(network, gaussjax.spaces.Dict(tuple(observed.items())), box, **options)
    options = {"deterministic": deterministic, "state_space": spaces["STATES"], "device": device}
    if framework == "torch":
        return torch_model(policy, **options)
    return jax_model(policy, jax.random.key(next(drawn)), **options)


def replacements(framework):
    def make(factory, deterministic):
        def instantiate(*, observation_space=None, state_space=None, action_space=None, device=None, **description):
            spaces = {"OBSERVATIONS": observation_space, "STATES": state_space, "ACTIONS": action_space}
            return model(framework, factory, [description], spaces, device, deterministic)

        return instantiate

    def shared(
        *, structure, parameters, roles, observation_space=None, state_space=None, action_space=None, device=None, **_
    ):
        spaces = {"OBSERVATIONS": observation_space, "STATES": state_space, "ACTIONS": action_space}
        made = model(framework, KINDS[structure[0]], parameters, spaces, device, False)
        act, known = made.act, dict(zip(roles, ("policy", "value"), strict=False))
        made.act = lambda inputs, role="": act(inputs, role=known.get(role, role))
        return made

    own = {
        "gaussian_model": make(gaussjax.gaussian, False),
        "multivariate_gaussian_model": make(gaussjax.multivariate_gaussian, False),
        "deterministic_model": make(gaussjax.gaussian, True),
        "shared_model": shared,
    }
    return {name: function for name, function in own.items() if hasattr(getattr(model_instantiators, framework), name)}


class Recorder:
    """Plugin of pytest that keeps the outcome of each test."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid.partition("tests/")[2]] = report.outcome

    def pytest_collection_modifyitems(self, items):
        for item in items:
            names = item.name, f"{item.path.stem.removeprefix('test_')} {item.name}"
            reasons = [
                why for pattern, why in NOT_APPLICABLE.items() if any(re.fullmatch(pattern, name) for name in names)
            ]
            reason = reasons[0] if reasons else None
            if reason is not None:
                self.outcomes[item.nodeid.partition("tests/")[2]] = reason
        items[:] = [item for item in items if item.nodeid.partition("tests/")[2] not in self.outcomes]


def checked(check):
    """The suite's check of options, without the options that the installed release does not have any more."""

    def check_config_keys(config, default):
        for name in set(config) - set(default):
            del config[name]
        check(config, default)

    return check_config_keys


def main(folder, results, *chosen):
    torch.set_num_threads(1)
    for framework, module in (("torch", in_torch), ("jax", in_jax)):
        for name, function in replacements(framework).items():
            setattr(module, name, function)
    recorder = Recorder()
    sys.path.insert(0, folder)
    utilities = importlib.import_module("tests.utilities")
    utilities.check_config_keys = checked(utilities.check_config_keys)
    # The trainers of the installed release ask for the class of an environment of several agents.
    for wrappers in (torch_wrappers, jax_wrappers):
        wrappers.MultiAgentEnvWrapper.register(utilities.MultiAgentEnv)
    files = [str(Path(folder, "tests", name)) for name in chosen or FILES]
    options = ["-q", "--rootdir", folder, "-p", "no:cacheprovider", "--tb=short", "--durations=5"]
    code = pytest.main([*options, *files], plugins=[recorder])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        return code
    page = Path(results)
    text = page.read_text(encoding="utf-8") if chosen and page.exists() else ""
    # Files that do not run now keep their rows.
    rows = {row.split("`")[1]: row for row in text.splitlines() if row.startswith("| `")}
    for name in chosen or FILES:
        counts = Counter(outcome for test, outcome in recorder.outcomes.items() if test.startswith(name))
        left = "; ".join(f"{count}: {why}" for why, count in counts.items() if why not in ("passed", "failed"))
        rows[name] = f"| `{name}` | {counts['passed']} | {counts['failed']} | {left} |"
    open_files = ", ".join(f"`{name}`" for name in FILES if name not in rows)
    lines = [
        "# skrl's own tests with our models",
        "",
        f"skrl {skrl.__version__} with the tests of its release 2.0.0, jax {jax.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}.",
        "Each test builds our models where it asks for skrl's Gaussian, multivariate, deterministic or shared ones.",
        "",
        "| file | passed | failed | not applicable |",
        "|---|---|---|---|",
        *(rows[name] for name in FILES if name in rows),
        "",
        *([f"Open: {open_files}.", ""] if open_files else []),
        "Not run: tests of Q-learning, SARSA, CEM, DQN and DDQN, whose models are categorical or tables, and",
        "`test_definition.py`, which compares the source text that skrl's instantiators generate.",
    ]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if "failed" in recorder.outcomes.values() or not recorder.outcomes else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

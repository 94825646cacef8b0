"""Agents of the real skrl 2.1.1 trained with its own models and with ours: the same parameters after 30 updates."""

import numpy as np
import pytest

from tests.parity.peer import run

SCRIPTS = {"torch": "skrl_agents.py", "jax": "skrl_jax_agents.py"}
AGENTS = {"torch": ("PPO", "A2C", "TRPO", "SAC", "AMP", "PPO_RNN"), "jax": ("PPO", "A2C", "SAC")}
ROWS = [(framework, agent) for framework, agents in AGENTS.items() for agent in agents]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    found = {}

    def results(framework):
        if framework not in found:
            found[framework] = run(SCRIPTS[framework], tmp_path_factory.mktemp(framework))
        return found[framework]

    return results


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "agent"), ROWS)
def test_thirty_updates_with_our_model_and_with_skrls_end_at_the_same_parameters(trained, framework, agent):
    results = trained(framework)
    names = [name.removesuffix("/ours") for name in results if name.startswith(f"{agent}/") and name.endswith("/ours")]
    roles = {name.split("/")[1] for name in names}
    assert roles >= ({"policy", "critic_1", "target_critic_2"} if agent == "SAC" else {"policy", "value"})
    for role in roles:
        moved = [abs(results[f"{name}/skrl"] - results[f"{name}/start"]).max() for name in names if f"/{role}/" in name]
        # The discriminator of AMP is skrl's own in both.
        assert max(moved) > 0.01 or role == "discriminator", role
    for name in names:
        bar = 1e-6 if agent == "PPO" else 1e-5
        np.testing.assert_allclose(results[f"{name}/ours"], results[f"{name}/skrl"], rtol=0, atol=bar, err_msg=name)

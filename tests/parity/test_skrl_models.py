"""Our models inside the real skrl 2.1.1, in its own environment."""

import json

import numpy as np
import pytest

from tests.parity.peer import blocks, execute, moved


@pytest.mark.slow
@pytest.mark.parametrize("script", ["skrl_models.py", "skrl_inputs.py", "skrl_lives.py"])
def test_our_models_are_those_of_skrl(script):
    assert " passed" in execute(script)


@pytest.mark.slow
def test_the_code_of_the_page_for_skrls_agents_runs(tmp_path):
    (code,) = blocks("py")
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    execute(tmp_path / "page.py")


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_example_on_pendulum_moves_by_the_lines_of_the_page(framework, tmp_path):
    changed, added = moved(framework)
    assert len(added) <= 5
    (tmp_path / "changed.py").write_text(changed, encoding="utf-8")
    kinds = {}
    for name, script in (("skrl", "skrl_pendulum.py"), ("ours", tmp_path / "changed.py")):
        kinds[name], returns, _ = json.loads(execute(script, framework, 0, 2).splitlines()[-1])
        assert len(returns) == 16
        assert np.isfinite(returns).all()
    assert kinds == {"skrl": "Policy", "ours": f"{framework.title() if framework == 'torch' else 'Jax'}Model"}

"""Our models inside the real skrl 2.1.1, in its own environment."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.parity.peer import execute

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/migration.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_our_models_are_those_of_skrl():
    assert " passed" in execute("skrl_models.py")


@pytest.mark.slow
def test_the_code_of_the_page_for_skrls_agents_runs(tmp_path):
    (code,) = blocks("py")
    (tmp_path / "page.py").write_text(code, encoding="utf-8")
    execute(tmp_path / "page.py")


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "diff"), [("torch", 0), ("jax", 1)])
def test_the_example_on_pendulum_moves_by_the_lines_of_the_page(framework, diff, tmp_path):
    original = Path(__file__).with_name(f"skrl_pendulum_{framework}.py").read_text(encoding="utf-8")
    lines = blocks("diff")[diff].splitlines()
    removed, added = ([line[1:] for line in lines if line[0] == sign] for sign in "-+")
    assert len(added) <= 5
    assert original.count("\n".join(removed)) == 1
    changed = original.replace("\n".join(removed), "\n".join(added))
    (tmp_path / "changed.py").write_text(changed, encoding="utf-8")
    kinds = {}
    for name, script in (("skrl", f"skrl_pendulum_{framework}.py"), ("ours", tmp_path / "changed.py")):
        kinds[name], returns = json.loads(execute(script, 0, 2).splitlines()[-1])
        assert len(returns) == 16
        assert np.isfinite(returns).all()
    assert kinds == {"skrl": "Policy", "ours": f"{framework.title() if framework == 'torch' else 'Jax'}Model"}

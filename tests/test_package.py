"""The package as a whole: what importing it loads."""

import importlib
import json
import os
import subprocess
import sys

import pytest

import gaussjax
from tests.test_public import rooms

# Rooms that `import gaussjax` loads.
EARLY = ("distributions", "exploration", "files", "networks", "normalize", "policy", "random", "spaces")
# Each costs seconds, or is a dependency that only some users have.
HEAVY = {"distrax", "gymnasium", "gymnasium.envs", "matplotlib", "tensorflow_probability", "torch", "flax.nnx"}


def run(repository, *arguments, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200
    )


LOADED = """
import json, sys
import jax, flax.linen, jaxtyping
needed = list(sys.modules)
import gaussjax
print(json.dumps([needed, list(sys.modules)]))
"""


@pytest.fixture(scope="module")
def loaded(repository):
    """Names of the modules that the dependencies load in a new process, and of those after gaussjax too."""
    finished = run(repository, "-c", LOADED)
    assert finished.returncode == 0, finished.stderr
    return [set(names) for names in json.loads(finished.stdout)]


def test_import_loads_nothing_heavy(loaded):
    assert {"jax", "flax.linen", "gaussjax", "gaussjax.policy"} <= loaded[1]
    assert not loaded[1] & HEAVY


def test_import_loads_no_package_beyond_those_of_flax_jaxtyping_and_safetensors(loaded):
    needed, after = loaded
    packages = {name.partition(".")[0] for name in after - needed} - sys.stdlib_module_names
    assert packages <= {"gaussjax", "safetensors"} | {name.partition(".")[0] for name in needed}


def test_a_room_loads_when_it_is_first_used(monkeypatch):
    for name in sorted({".".join(room.split(".")[:2]) for room in rooms()} - {"gaussjax", "gaussjax.__main__"}):
        short = name.removeprefix("gaussjax.")
        monkeypatch.delattr(gaussjax, short, raising=False)
        assert getattr(gaussjax, short, None) is (None if short in EARLY else importlib.import_module(name)), short
    with pytest.raises(AttributeError, match="module 'gaussjax' has no attribute 'enves'"):
        gaussjax.enves  # noqa: B018


@pytest.mark.parametrize("start", ["import gaussjax", "import gaussjax_command; gaussjax_command.main()"])
def test_a_jax_that_is_too_old_is_named_with_the_repair(repository, start):
    floor = next(line for line in (repository / "pyproject.toml").read_text().splitlines() if '"jax>=' in line)
    older = "import jax; jax.__version__, jax.__version_info__ = '0.6.9', (0, 6, 9)"
    finished = run(repository, "-c", f"{older}; {start}")
    text = f"jax: expected version {floor.split('=')[1][:-2]} or newer, got 0.6.9. pip install --upgrade jax jaxlib"
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1] in (f"ImportError: {text}", f"gaussjax: {text}")

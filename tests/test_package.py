"""The package as a whole: what importing it loads."""

import os
import subprocess
import sys

import pytest

# Each costs seconds, or is a dependency that only some users have.
HEAVY = {"distrax", "gymnasium", "gymnasium.envs", "matplotlib", "tensorflow_probability", "torch", "tyro", "flax.nnx"}


def run(repository, *arguments, cwd=None):
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200
    )


def modules_after(repository, statement):
    """Names of the modules that a statement loads in a new process."""
    finished = run(repository, "-X", "importtime", "-c", statement)
    assert finished.returncode == 0, finished.stderr
    return {line.rsplit("|", 1)[-1].strip() for line in finished.stderr.splitlines() if line.startswith("import time:")}


@pytest.fixture(scope="module")
def loaded(repository):
    return modules_after(repository, "import gaussjax")


def test_import_loads_nothing_heavy(loaded):
    assert {"jax", "flax.linen", "gaussjax", "gaussjax.policy"} <= loaded
    assert not loaded & HEAVY


def test_import_loads_no_package_beyond_those_of_flax_jaxtyping_and_safetensors(repository, loaded):
    needed = modules_after(repository, "import jax, flax.linen, jaxtyping")
    packages = {name.partition(".")[0] for name in loaded - needed} - sys.stdlib_module_names
    assert packages <= {"gaussjax", "safetensors"} | {name.partition(".")[0] for name in needed}

"""Every import of another package is declared, and every declared dependency is imported and pinned."""

import ast
import re
import sys
import tomllib

import pytest

# Module names of the distributions whose own name differs.
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "tensorboardx": "tensorboardX", "tfp_nightly": "tensorflow_probability"}


def modules(requirements):
    """Names of the modules that these requirements bring."""
    names = (re.match(r"[\w-]+", requirement)[0].lower().replace("-", "_") for requirement in requirements)
    return {MODULES.get(name, name) for name in names}


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def imported(repository):
    """Top-level modules of other packages that each file imports, at its top or in a function."""
    found = {}
    for path in sorted((repository / "gaussjax").rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
        found[path.relative_to(repository).as_posix()] = {name.partition(".")[0] for name in names}
    # Our own start file of the command stands beside the package.
    own = {"gaussjax", "gaussjax_command", *sys.stdlib_module_names}
    return {path: names - own for path, names in found.items()}


def test_every_module_that_is_imported_is_declared(project, imported):
    extras = project["optional-dependencies"]
    users = [requirement for name in set(extras) - {"dev", "docs"} for requirement in extras[name]]
    declared = modules([*project["dependencies"], *users])
    assert {path: names - declared for path, names in imported.items() if names - declared} == {}


def test_every_dependency_is_imported(project, imported):
    # chex is there for users' own loops and for the tests; no check in the package is shorter with it.
    assert modules(project["dependencies"]) - set().union(*imported.values()) <= {"chex"}


def test_every_dependency_is_pinned(repository, project):
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = modules(line for line in lines if not line.startswith("#"))
    extras = project["optional-dependencies"]
    # These extras are not pinned; pyproject.toml says why.
    tested = [requirement for name in set(extras) - {"wandb", "onnx", "cuda", "look"} for requirement in extras[name]]
    assert modules([*project["dependencies"], *tested]) - pinned == set()


def test_the_oldest_versions_that_are_allowed_are_tested(repository, project):
    tested = (repository / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    floors = dict(requirement.split(">=") for requirement in project["dependencies"] if ">=" in requirement)
    for name in ("jax", "flax"):
        assert any(line.startswith(f"{name}=={floors[name]}.") for line in tested)
    assert f"jaxlib=={floors['jax']}.0" in tested

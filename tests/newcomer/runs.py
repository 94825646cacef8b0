"""What newcomers type, from an empty folder to their first result: each run with the files that they write."""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

from tests.parity.peer import moved
from tests.test_pages import REPOSITORY, code


class Step(NamedTuple):
    """A step of a run.

    Attributes:
        does: Words for the table.
        types: Lines for bash. They may use $REPOSITORY, $WHEEL, $ARCHIVE and $PYTHON.
        prints: Pattern that the output has to contain; the table holds the match.
        code: Exit code.
    """

    does: str
    types: str
    prints: str = ""
    code: int = 0


class Run(NamedTuple):
    """A run of a newcomer with one version of Python, in an empty folder with these files."""

    python: str
    steps: tuple[Step, ...]
    files: dict[str, str] = {}


def _page(name: str) -> str:
    return "\n".join(code(name, "python"))


def _floors() -> str:
    """The oldest versions of jax and flax that pyproject.toml allows."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = dict(re.findall(r"(jax|flax)>=([\d.]+)", " ".join(project["dependencies"])))
    return f"jax=={found['jax']}.0 jaxlib=={found['jax']}.0 flax=={found['flax']}.*"


ENVIRONMENT = Step("make an empty environment", '"$PYTHON" -m venv .venv')
WHEEL = Step("pip install the wheel with [train]", 'pip install -q "$WHEEL[train]"')
SOUND = Step("pip check", "pip check", "No broken requirements found")
README = Step("run the code of the README", "python readme.py", r"^\(1,\)$")
TRAIN = "gaussjax train ppo Pendulum-v1 --total-steps 4096"
SHORT = Step("train for 4096 steps", f"{TRAIN} | tee train.txt", "^next: gaussjax evaluate .*")
NEXT = Step("type the line that the training ends with", "eval \"$(sed -n 's/^next: //p' train.txt)\"", "mean return")
NO_EXTRA, NO_MUJOCO = r"^gaussjax: .*pip install 'gaussjax\[train\]'", r"^gaussjax: .*pip install .gymnasium\[mujoco\]"

# An image as Colab has one: its own jax, Jupyter, and the module that the kernel imports at its start.
COLAB = "pip install -q jax flax matplotlib ipykernel nbclient && pip freeze | grep -E '^jax(lib)?=' | tee jax.txt"
NOTEBOOK = (REPOSITORY / "notebooks" / "01_first_policy.ipynb").read_text(encoding="utf-8")
MINE = """
import gymnasium
import numpy as np

class Env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.5, 0.5, 2).astype(np.float32)
        return self.state, {}

    def step(self, action):
        self.state = np.clip(self.state + 0.1 * np.float32([self.state[1], action[0]]), -1.0, 1.0)
        return self.state, -float(self.state @ self.state), False, False, {}

gymnasium.register("Env-v0", entry_point=Env, max_episode_steps=50)
"""

RUNS = {
    "two commands": Run(
        "3.11",
        (
            Step("clone", 'git clone -q "$REPOSITORY" gaussjax'),
            Step(
                "make train: install",
                'cd gaussjax && make .venv/.trains PYTHON="$PYTHON" && du -sm .venv',
                r"^\d+\s+\.venv",
            ),
            Step("make train: train and evaluate", "cd gaussjax && make train | tee train.txt", "^next: .*"),
            Step(
                "type the last line", "cd gaussjax && eval \"$(sed -n 's/^next: //p' train.txt)\" && ls", "episode.gif"
            ),
            Step("make test: install", "cd gaussjax && make .venv/.ready", ""),
            Step(
                "make test, one room of it", "cd gaussjax && .venv/bin/python -m pytest -q tests/spaces", r"\d+ passed"
            ),
            Step("pip check", "gaussjax/.venv/bin/python -m pip check", "No broken requirements found"),
        ),
    ),
    "first errors": Run(
        "3.11",
        (
            ENVIRONMENT,
            Step("pip install the wheel", 'pip install -q "$WHEEL"'),
            README,
            Step("train without [train]", TRAIN, NO_EXTRA, 1),
            Step("type what the error says", "pip install -q 'gaussjax[train]'"),
            SHORT,
            NEXT,
            Step("name an environment of MuJoCo", "gaussjax train ppo HalfCheetah-v5", NO_MUJOCO, 2),
            Step(
                "name a folder that cannot be written", f"{TRAIN} --out /sys/run", "^gaussjax: out: .*Name another", 2
            ),
            Step("name the folder again", f"{TRAIN}", "^gaussjax: out: .* exists. Name another folder", 2),
        ),
        {"readme.py": _page("README.md")},
    ),
    "an old Python": Run(
        "3.10",
        (
            ENVIRONMENT,
            Step("pip install the wheel", 'pip install -q "$WHEEL"', "(?i)requires? a different python", 1),
        ),
    ),
    "Colab": Run(
        "3.12",
        (
            ENVIRONMENT,
            Step("make its image", COLAB, "^jax==.*"),
            Step(
                "run the first notebook, which installs the archive",
                'sed -i "s|file:///content/gaussjax.zip|file://$ARCHIVE|" first.ipynb\n'
                "PYTHONPATH=$PWD IPYTHONDIR=$PWD/ipython jupyter execute first.ipynb",
            ),
            Step("compare its jax", "pip freeze | grep -E '^jax(lib)?=' | diff jax.txt - && cat jax.txt", "^jax==.*"),
            Step("look for gaussjax", "pip show gaussjax", "^Version: .*"),
            SOUND,
        ),
        {
            "first.ipynb": NOTEBOOK,
            # jax imports this name where the module is loaded.
            "google/colab/__init__.py": "output = None",
            "ipython/profile_default/startup/colab.py": "import google.colab",
        },
    ),
    "from skrl": Run(
        "3.11",
        (
            ENVIRONMENT,
            Step(
                "make an environment with skrl",
                'pip install -q -c "$REPOSITORY/constraints.txt" torch && '
                'pip install -q -c "$REPOSITORY/constraints.txt" skrl',
            ),
            Step("train skrl's example", "python theirs.py torch 0 2", r'^\["Policy"'),
            Step("pip install the wheel", 'pip install -q "$WHEEL"'),
            Step("train it with the lines of the page", "python ours.py torch 0 2", r'^\["\w+"'),
            Step("run the code of the page", "python page.py", r"^True$"),
        ),
        {
            "theirs.py": (REPOSITORY / "tests" / "parity" / "skrl_pendulum.py").read_text(encoding="utf-8"),
            "ours.py": moved("torch")[0],
            "page.py": _page("docs/migration.md"),
        },
    ),
    "an environment of one's own": Run(
        "3.11",
        (
            ENVIRONMENT,
            WHEEL,
            Step("train", "gaussjax train ppo mine:Env-v0 --total-steps 4096 | tee train.txt", "^next: gaussjax .*"),
            Step("type the last line", "eval \"$(sed -n 's/^next: //p' train.txt)\"", "mean return"),
        ),
        {"mine.py": MINE},
    ),
} | {
    f"Python {python}, {age} jax": Run(
        python,
        (
            ENVIRONMENT,
            Step("pip install the wheel with [train]", f'pip install -q "$WHEEL[train]" {versions}'),
            SOUND,
            Step("see its jax", "pip freeze", "^jax==.*"),
            README,
            SHORT,
        ),
        {"readme.py": _page("README.md")},
    )
    for python in ("3.11", "3.12", "3.13")
    for age, versions in (("newest", ""), ("oldest", _floors()))
}

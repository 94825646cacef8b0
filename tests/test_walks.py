"""The files and functions of the package that a reader passes through; what an import executes does not count."""

import pytest

from tests.test_package import run

# Of a first `act`, and of a training up to its first gradient.
ACT_FILES, ACT_FUNCTIONS, TRAINING_FILES = 11, 43, 35

_WALK = """
import pathlib, sys
import jax, numpy as np
import gaussjax

root, walk = str(pathlib.Path(gaussjax.__file__).parent), {}

class Reached(BaseException):
    pass

def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_name == "value_and_grad_f":
        raise Reached
    inner = code.co_name in ("<module>", "<genexpr>", "<listcomp>", "<dictcomp>")
    if event == "call" and code.co_filename.startswith(root) and not inner:
        walk[code.co_filename[len(root) + 1 :], code.co_qualname] = None
"""
_ACT = """
box = gaussjax.spaces.Box(-1.0, 1.0, (3,))
policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), box, box)
params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(policy.init, jax.random.key(0)))
key, observations = jax.random.key(1), np.zeros((4, 3), np.float32)
sys.setprofile(profile)
policy.act(params, key, observations)
"""
_TRAINING = """
from gaussjax.cli.main import main

sys.setprofile(profile)
try:
    main(["train", "ppo", "Pendulum-v1", "--out", sys.argv[1]])
except Reached:
    pass
"""
_PRINT = """
sys.setprofile(None)
for file, function in walk:
    print("walk", file, function)
"""


def walked(repository, code, *arguments):
    finished = run(repository, "-c", _WALK + code + _PRINT, *arguments)
    assert finished.returncode == 0, finished.stderr
    # pytest shows the walk if it is too long.
    print(finished.stdout)
    return [line.split()[1:] for line in finished.stdout.splitlines() if line.startswith("walk ")]


@pytest.mark.without("jax_disable_jit")
def test_a_first_act_is_a_short_walk(repository):
    walk = walked(repository, _ACT)
    assert 0 < len({file for file, _ in walk}) <= ACT_FILES
    assert len(walk) <= ACT_FUNCTIONS


def test_a_training_enters_few_files_before_its_first_gradient(repository, tmp_path):
    files = {file for file, _ in walked(repository, _TRAINING, str(tmp_path / "run"))}
    assert "training/ppo/update.py" in files
    assert len(files) <= TRAINING_FILES

"""The length of a first `act`: the files and functions of the package that a reader passes through."""

from tests.test_package import run

MOST_FILES, MOST_FUNCTIONS = 11, 43
_WALK = """
import pathlib, sys
import jax, numpy as np
import gaussjax

root = str(pathlib.Path(gaussjax.__file__).parent)
box = gaussjax.spaces.Box(-1.0, 1.0, (3,))
policy = gaussjax.gaussian(gaussjax.networks.MLP((64, 32)), box, box)
key = jax.random.key(1)
params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(policy.init, key))
observations = np.zeros((4, 3), np.float32)
walk = {}

def profile(frame, event, _):
    code = frame.f_code
    inner = code.co_name in ("<module>", "<genexpr>", "<listcomp>", "<dictcomp>")
    if event == "call" and code.co_filename.startswith(root) and not inner:
        walk[code.co_filename[len(root) + 1 :], code.co_qualname] = None

sys.setprofile(profile)
policy.act(params, key, observations)
sys.setprofile(None)
for file, function in walk:
    print(file, function)
"""


def test_a_first_act_is_a_short_walk(repository):
    finished = run(repository, "-c", _WALK)
    assert finished.returncode == 0, finished.stderr
    walk = [line.split() for line in finished.stdout.splitlines()]
    print(finished.stdout)
    assert 0 < len({file for file, _ in walk}) <= MOST_FILES
    assert len(walk) <= MOST_FUNCTIONS

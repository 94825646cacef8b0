"""Files of the package that a training enters before its first gradient."""

from tests.test_package import run

# A reader of the training visits each of these files; executing a module at its import does not count.
MOST_FILES = 35

WALK = """
import pathlib, sys
import gaussjax
from gaussjax.cli.main import main

root, walk = pathlib.Path(gaussjax.__file__).parent, {}

class Reached(BaseException):
    pass

def profile(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_name == "value_and_grad_f":
        raise Reached
    if event == "call" and code.co_filename.startswith(str(root)) and code.co_name != "<module>":
        walk.setdefault(pathlib.Path(code.co_filename).relative_to(root).as_posix(), []).append(code.co_qualname)

sys.setprofile(profile)
try:
    main(["train", "ppo", "Pendulum-v1", "--out", sys.argv[1]])
except Reached:
    pass
finally:
    sys.setprofile(None)
for file, functions in walk.items():
    print(file, *dict.fromkeys(functions))
"""


def test_a_training_enters_few_files_before_its_first_gradient(repository, tmp_path):
    finished = run(repository, "-c", WALK, str(tmp_path / "run"))
    assert finished.returncode == 0, finished.stderr
    walk = [line for line in finished.stdout.splitlines() if ".py " in line]
    print("\n".join(walk))
    assert any(line.startswith("training/ppo/update.py") for line in walk)
    assert len(walk) <= MOST_FILES

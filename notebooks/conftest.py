"""Settings for notebooks under pytest: their sources are not tests, and warnings are errors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = ["*.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the notebooks as slow, because they have no place for a mark; `make test-full` runs them."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)


# The kernel itself warns when it shuts down, which no notebook can prevent.
_STRICT = """\
import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="ipykernel|jupyter_client|traitlets|tornado|zmq")
"""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Run the kernel of this environment without the user's settings, and with warnings as errors."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        startup = Path(folder) / "profile_default" / "startup"
        startup.mkdir(parents=True)
        (startup / "00_strict.py").write_text(_STRICT, encoding="utf-8")
        patch.setenv("IPYTHONDIR", folder)
        patch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
        yield

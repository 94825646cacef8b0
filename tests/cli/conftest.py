"""Every command of these tests shares the compiled programs of the run."""

import os

import pytest


@pytest.fixture(autouse=True)
def compiled_programs(monkeypatch, tmp_path_factory):
    """Keeps the command from moving the folder of compiled programs, whether the environment names one or not."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(folder))

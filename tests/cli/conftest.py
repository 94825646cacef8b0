"""Every command of these tests shares the compiled programs of the run."""

import os

import pytest


@pytest.fixture(autouse=True)
def compiled_programs(monkeypatch):
    """The command does not move the folder of compiled programs."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", "unused"))

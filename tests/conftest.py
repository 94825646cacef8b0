"""Settings for all tests, and the fixtures that several test files use."""

import ctypes
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from gaussjax.networks import MLP
from tests import policies

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a `dear` (expensive) test as slow if its row of `policies.TABLE` is a variant of another row.

    A `dear` test of the density is also slow for every network but the MLP: the density is the same for all.
    """
    for item in items:
        row = getattr(item, "callspec", None) and item.callspec.params.get("name")
        case = policies.TABLE.get(row) if isinstance(row, str) else None
        if case is not None and item.get_closest_marker("dear"):
            of_density = item.get_closest_marker("density") and not isinstance(case.network, MLP)
            if case.variant or of_density:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Freezes all imported objects, so that garbage collections and JAX's leak checks skip them and run faster."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Drops the compiled programs of each test file at its end; together they would fill gigabytes of memory."""
    yield
    policies.make.cache_clear()
    jax.clear_caches()
    gc.collect()
    # On Linux the C library keeps freed memory for itself until it is told to return it.
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Path of the repository: the folder that contains pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs a test with 64-bit dtypes enabled in JAX."""
    # Older versions of JAX have jax.experimental.enable_x64 in place of jax.enable_x64.
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


@pytest.fixture
def traces() -> Iterator[Callable[[], int]]:
    """Function that returns the number of JAX's traces and compilations since the start of the test."""
    events: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def record_bar(repository: Path) -> Callable[[str, str, int, int, int], None]:
    """Function that records a measured count in the table of `make test-faults`, if the run writes that table."""
    from tests.faults import record

    return record.bar

"""Settings of all tests, and fixtures that several files share."""

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
    """Marks a dear test as slow in rows that vary another row.

    A dear test of the density is slow with networks other than the MLP too.
    """
    for item in items:
        row = getattr(item, "callspec", None) and item.callspec.params.get("name")
        case = policies.TABLE.get(row) if isinstance(row, str) else None
        if case is not None and item.get_closest_marker("dear"):
            of_density = item.get_closest_marker("density") and not isinstance(case.network, MLP)
            if case.variant or of_density:
                item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Freezes imported objects, so that neither a collection nor JAX's search for leaks visits them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs() -> Iterator[None]:
    """Compiled programs of a file are dropped at its end: over a whole run they would fill gigabytes."""
    yield
    policies.make.cache_clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def x64() -> Iterator[None]:
    """The test runs with 64-bit types on."""
    # jax.enable_x64 took the place of the experimental one during 2025.
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        yield


@pytest.fixture
def traces() -> Iterator[Callable[[], int]]:
    """A function that returns how often JAX has traced or compiled something since the test began."""
    events: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def record_bar(repository: Path) -> Callable[[str, str, int, int, int], None]:
    """Writes a measured count into the table of `make test-faults`."""
    from tests.faults import record

    return record.bar

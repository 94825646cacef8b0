"""What all tests run under, and the fixtures that several files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from tests import policies

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A dear test of a row that varies another one is slow."""
    for item in items:
        case = policies.TABLE.get(getattr(item, "callspec", None) and item.callspec.params.get("name"))
        if case is not None and case.variant and item.get_closest_marker("dear"):
            item.add_marker(pytest.mark.slow)


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
    """A function that says how often JAX traced or compiled something since the test began."""
    events: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield lambda: len(events)
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def record_bar(repository: Path) -> Callable[[str, str, int, int, int], None]:
    """Writes a measured count into the table of `make test-faults`, where one is asked for."""
    from tests.faults import record

    return record.bar

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
if not hasattr(jax, "enable_x64"):  # jax 0.7
    jax.enable_x64 = jax.experimental.enable_x64


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks a test of a row of `policies.TABLE` as slow if another row tests the same.

    That is a `dear` (expensive) test of a variant of another row; a `dear` test of the `density` with a network other
    than the MLP; and a test of what all rows have in `common`, but for the first row.
    """
    for item in items:
        row = getattr(item, "callspec", None) and item.callspec.params.get("name")
        case = policies.TABLE.get(row) if isinstance(row, str) else None
        if case is None:
            continue
        marks = {mark.name for mark in item.iter_markers()}
        others = case.variant or ("density" in marks and not isinstance(case.network, MLP))
        if ("dear" in marks and others) or ("common" in marks and row != next(iter(policies.TABLE))):
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


@pytest.fixture(autouse=True)
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Turns the modes of JAX off that a test names in its mark `without`, also for the processes that it starts."""
    modes = [mode for mark in request.node.iter_markers("without") for mode in mark.args]
    before = [getattr(jax.config, mode) for mode in modes]
    for mode in modes:
        jax.config.update(mode, False)
        monkeypatch.setenv(mode.upper(), "0")
    yield
    for mode, value in zip(modes, before, strict=True):
        jax.config.update(mode, value)


@pytest.fixture
def x64() -> Iterator[None]:
    """Runs a test with 64-bit dtypes enabled in JAX."""
    with jax.enable_x64(True):
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
    # jax 0.7 has no such function; the listener then stays, and fills a list that nobody reads.
    getattr(jax.monitoring, "unregister_event_duration_listener", lambda _: None)(listen)


@pytest.fixture
def record_bar(repository: Path) -> Callable[[str, str, int, int, int], None]:
    """Function that records a measured count in the table of `make test-faults`, if the run writes that table."""
    from tests.faults import record

    return record.bar

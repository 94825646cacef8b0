"""The page of results of the peers' tests."""

import re
from pathlib import Path

from tests.peers.suites import SUITES


def test_the_page_has_every_test_file_and_exception_and_no_failure(repository: Path) -> None:
    page = (repository / "benchmarks/results/peer_tests.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| `([\w/.]+)` \w+ \| .* \| (\d+) \|$", page, flags=re.MULTILINE)
    assert rows == [(suite.peer, suite.file, "0") for suite in SUITES]
    listed = re.findall(r"^\| (\w+) \| `([\w/.]+)` \| [1-9]\d* \| (.*) \|$", page, flags=re.MULTILINE)
    expected = {(suite.peer, suite.file, reason) for suite in SUITES for reason in suite.exceptions.values()}
    assert set(listed) == expected

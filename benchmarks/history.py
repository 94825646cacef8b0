"""Revisions by git: the present one, and how much the package has changed since another."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_PACKAGE = "gaussjax"
# A changed page does not change the measured code.
_PAGES = (":!/benchmarks/results", ":!/docs", ":!/*.md")


class Change(NamedTuple):
    """Difference between the package of a revision and the package of the checkout.

    Attributes:
        commits: Commits since the revision that changed the package.
        files: Files that differ, those included that only one of the two has.
    """

    commits: int
    files: int


def present(root: Path = ROOT) -> str:
    """The present revision, with "-dirty" after it if the code has changes without a commit, or "unknown"."""
    try:
        revision = _git(root, "describe", "--always", "--exclude=*")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ":/", *_PAGES)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{revision}-dirty" if changed else revision


@functools.cache
def since(revisions: str, root: Path = ROOT) -> Change | None:
    """How much the package has changed since the oldest revision that a text names; None if git knows none of them."""
    found = []
    for revision in re.findall(r"\b[0-9a-f]{7,40}\b", revisions):
        try:
            changed = _git(root, "diff", "--name-only", revision, "--", _PACKAGE).splitlines()
            commits = int(_git(root, "rev-list", "--count", f"{revision}..HEAD", "--", _PACKAGE)) if changed else 0
            found.append(Change(commits, len(changed)))
        except (OSError, subprocess.CalledProcessError):
            continue
    return max(found, default=None)


def age(revisions: str, root: Path = ROOT) -> str:
    """A sentence that warns of results that are older than the package; empty for results of the present package."""
    change = since(revisions, root)
    if change is None:
        return "Git does not know this revision, so the figures may be older than the package."
    if not change.files:
        return ""
    files = f"{change.files} file{'s' if change.files > 1 else ''}"
    return f"**Older than the package: since then {count(change)} changed {files} of it.**"


def count(change: Change) -> str:
    """What changed the package, in words."""
    if not change.commits:
        return "uncommitted edits"
    return f"{change.commits} commit{'s' if change.commits > 1 else ''}"


def current(revision: str, root: Path = ROOT) -> bool:
    """True if a measurement at a revision measured the present package, and no changes without a commit."""
    change = since(revision, root)
    return not revision.endswith("-dirty") and change == (0, 0)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

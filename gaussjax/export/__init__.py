"""Policies as programs for machines without gaussjax."""

from gaussjax.export.program import Program as Program
from gaussjax.export.program import export as export

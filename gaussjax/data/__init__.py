"""Recorded experience: readers of the formats that people have, checks, and a writer."""

from gaussjax.data.checks import check as check
from gaussjax.data.episodes import Episodes as Episodes
from gaussjax.data.episodes import rows as rows
from gaussjax.data.recorded import digest as digest
from gaussjax.data.recorded import read_dataset as read_dataset
from gaussjax.data.write import write as write

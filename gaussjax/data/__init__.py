"""Datasets of recorded experience."""

from gaussjax.data.episodes import Episodes as Episodes
from gaussjax.data.recorded import Dataset as Dataset
from gaussjax.data.recorded import read_dataset as read_dataset

"""Ctrl-C arrives wherever it comes."""

import gc
import signal
import sys
import time

import pytest

from gaussjax.training.run import interruption


def press(phase="start", _=None):
    if phase == "start":
        signal.raise_signal(signal.SIGINT)


class PressedAtItsEnd:
    def __del__(self):
        press()


def in_finaliser():
    PressedAtItsEnd()


def in_collection():
    gc.callbacks.append(press)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(press)


@pytest.mark.parametrize("pressed", [in_finaliser, in_collection])
def test_interrupt_that_python_drops_comes_again(pressed):
    def wait():
        pressed()
        time.sleep(60)

    with interruption.heard(), pytest.raises(KeyboardInterrupt):
        wait()


def test_other_errors_that_python_drops_are_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    class Broken:
        def __del__(self):
            raise OSError

    with interruption.heard():
        Broken()
    Broken()
    assert told == [OSError, OSError]

"""Ctrl-C and SIGTERM during a training."""

import gc
import signal
import sys
import time

import pytest

from gaussjax.training.run.loop import Interruption, resend_lost_interrupts


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_request_and_the_second_one_stops(name):
    before = signal.getsignal(name)
    with Interruption().handle_signals() as interruption:
        assert not interruption.requested_anywhere()
        signal.raise_signal(name)
        assert interruption.requested_anywhere()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(name)
    assert signal.getsignal(name) is before


def press(phase="start", _=None):
    if phase == "start":
        signal.raise_signal(signal.SIGINT)


def in_finaliser():
    class Pressed:
        def __del__(self):
            press()

    Pressed()


def in_collection():
    gc.callbacks.append(press)
    try:
        gc.collect()
    finally:
        gc.callbacks.remove(press)


@pytest.mark.parametrize("pressed", [in_finaliser, in_collection])
def test_an_interrupt_that_python_drops_is_sent_again(pressed):
    def wait():
        pressed()
        time.sleep(600)

    with resend_lost_interrupts(), pytest.raises(KeyboardInterrupt):
        wait()


def test_other_errors_that_python_drops_are_reported_as_before(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))

    class Broken:
        def __del__(self):
            raise OSError

    with resend_lost_interrupts():
        Broken()
    Broken()
    assert reported == [OSError, OSError]

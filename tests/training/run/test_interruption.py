"""Ctrl-C and SIGTERM during a training."""

from __future__ import annotations

import signal

import pytest

from gaussjax.training.run.interruption import Interruption


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

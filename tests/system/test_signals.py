"""One request to stop ends a training at a checkpoint, a second one at once."""

from __future__ import annotations

import signal

import pytest

from qc_experiments.system import signals
from qc_experiments.system.signals import Interrupted, StopRequests


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_comes_from_a_scheduler_and_from_the_sweep_is_one_request(
    signum, monkeypatch
):
    stop = StopRequests()
    with stop.listening(), stop.patiently():
        signal.raise_signal(signum)
        signal.raise_signal(signum)
        assert stop.requested == signum
        monkeypatch.setattr(signals, "SAME_REQUEST", 0.0)
        with pytest.raises(Interrupted):
            signal.raise_signal(signum)


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_twice_or_another_signal_ends_it_at_once(second):
    stop = StopRequests()
    with stop.listening(), stop.patiently():
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == signal.SIGINT
        with pytest.raises(Interrupted):
            signal.raise_signal(second)

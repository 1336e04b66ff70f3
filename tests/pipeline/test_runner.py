"""How the stages' processes are started and stopped."""

from __future__ import annotations

import os
import signal

import pytest

from infra.pipeline.runner import _interrupts


def test_ctrl_c_while_a_worker_is_started_counts_when_it_has_started() -> None:
    done, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), _interrupts() as interrupts, interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("started")
    assert done == ["started"] and interrupts.asked
    with pytest.raises(KeyboardInterrupt), _interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("Ctrl-C was not seen")
    assert signal.getsignal(signal.SIGINT) is before  # ignored, where the tests run in the background of a shell

"""What the site's SuperNode does otherwise than Flower's own."""

from __future__ import annotations

import pytest

from clients.supernode.node import short_sleep
from common.runtime.pauses import Pauses


def test_a_node_looks_often_while_there_is_work_and_seldom_while_there_is_none() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    nap = short_sleep(Pauses(0.1, 1.0, clock=lambda: now[0]), sleep)
    for _ in range(3):
        nap(0.5)
    assert slept == [0.1, 0.1, 0.1]
    for _ in range(60):
        nap(3)
    assert slept[3] == pytest.approx(0.1)
    assert slept[-1] == 1.0
    assert slept == sorted(slept)
    nap(0.5)
    nap(3)
    assert slept[-1] == pytest.approx(0.1)

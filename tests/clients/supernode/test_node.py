"""What the site's SuperNode does otherwise than Flower's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects
from flwr.supercore.run import RunNotRunningException

from clients.supernode.node import short_sleep, whole_or_dropped
from common.flower.pace import PACE, quicken
from common.runtime.pauses import Pauses


@pytest.fixture
def _flowers_own_pace() -> Iterator[None]:
    kept = {
        function: dict(function.__kwdefaults__)
        for function in (pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)
    }
    yield
    for function, defaults in kept.items():
        function.__kwdefaults__.clear()
        function.__kwdefaults__.update(defaults)


@pytest.mark.usefixtures("_flowers_own_pace")
def test_a_part_that_comes_a_moment_later_is_taken_a_moment_later() -> None:
    assert pull_objects.__kwdefaults__["initial_backoff"] == 1
    quicken()
    assert {key: pull_objects.__kwdefaults__[key] for key in PACE} == PACE
    there = threading.Event()
    threading.Timer(0.15, there.set).start()

    def pull(object_id: str) -> bytes:
        if not there.is_set():
            raise ObjectUnavailableError(object_id)
        return b"part"

    began = time.monotonic()
    assert pull_objects(["a"], pull) == {"a": b"part"}
    assert time.monotonic() - began < 0.8


def test_a_run_that_ends_while_a_message_comes_is_a_failure_like_any_other() -> None:
    def ended(*given: Any, **named: Any) -> dict[str, bytes]:
        raise RunNotRunningException

    with pytest.raises(RuntimeError, match="the run has ended"):
        whole_or_dropped(ended)(["a"])
    assert whole_or_dropped(lambda ids: dict.fromkeys(ids, b""))(["a"]) == {"a": b""}


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

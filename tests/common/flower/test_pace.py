"""Flower takes a part of a message a moment after it has come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects

from common.flower.pace import PACE, quicken


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

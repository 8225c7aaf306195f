"""The room that touches Flower's private parts is made for the Flower that is pinned and installed."""

from __future__ import annotations

import importlib.metadata
import tomllib

from common.files import PROJECT
from common.flower import MADE_FOR
from common.flower.project import HANSA


def test_the_pinned_flower_is_the_one_that_the_room_was_made_for() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    pins = [each for each in project["project"]["dependencies"] if each.startswith("flwr")]
    assert pins == [f"flwr[simulation]=={MADE_FOR}"]
    assert importlib.metadata.version("flwr") == MADE_FOR
    assert project["tool"]["flwr"]["app"]["components"] == {
        "serverapp": HANSA.serverapp, "clientapp": HANSA.clientapp,
    }  # fmt: skip

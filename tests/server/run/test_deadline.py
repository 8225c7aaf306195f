"""When each step of a round has to end, protection by protection."""

from __future__ import annotations

from typing import Any

import pytest

from common.settings.config import RoundsConfig
from common.settings.load import load_config
from server.run.deadline import RoundClock
from tests.server.tiny_league import own_time

STEPS = ("keys", "train", "agree", "reveal", "trial", "apply", "guard")
MASKED = dict(zip(STEPS, (15.0, 60.0, 70.0, 80.0, 87.0, 95.0, 100.0), strict=True))


def _rounds(**settings: Any) -> RoundsConfig:
    return load_config({"rounds": {"deadline_s": 100.0, **settings}}).rounds


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        ({"protection": "plain"}, dict.fromkeys(STEPS, 100.0)),
        ({"protection": "plain", "worst_fall": 0.5}, dict.fromkeys(STEPS, 100.0) | {"train": 90.0}),
        ({"protection": "masked"}, MASKED),
        ({"protection": "masked", "worst_fall": 0.5}, MASKED),
        ({"protection": "he+masked"}, MASKED),
        ({"protection": "he"}, MASKED | {"train": 80.0}),
        ({"protection": "ckks", "release": "sites", "worst_fall": 0.5}, MASKED | {"train": 80.0}),
    ],
)
def test_each_step_ends_at_its_share_of_the_rounds_time(
    settings: dict[str, Any], ends: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    time = own_time(monkeypatch)
    clock = RoundClock(_rounds(**settings))
    for step in STEPS:
        assert clock.left(step) == pytest.approx(ends[step])
    time.now += 12.5
    for step in STEPS:
        assert clock.left(step) == pytest.approx(ends[step] - 12.5)


def test_a_step_has_a_hundredth_of_the_deadline_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    time = own_time(monkeypatch)
    clock = RoundClock(_rounds(protection="masked"))
    time.now += 14.5
    assert clock.left("keys") == 1.0
    time.now += 500.0
    assert clock.left("guard") == 1.0

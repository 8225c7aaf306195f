"""A whole site as unit: its move is cut to the clip, and a league too small for it is refused with the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.dp.whole_site import MOST, clipped_move, require_sites
from clients.parts import Parts
from clients.trainer import Site
from common.errors import PrivacyError
from common.privacy.guarantee import noise_multiplier
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from tests.clients.small_site import CONFIG, drawn_site


def league(honest: int) -> LeagueConfig:
    return with_overrides(CONFIG, {
        "privacy.mode": "site", "privacy.honest_sites": honest, "privacy.clip": 0.15, "model.tower": False,
        "rounds.protection": "masked", "rounds.count": 4,
    })  # fmt: skip


def test_a_long_move_is_cut_to_the_clip_and_a_short_one_stays() -> None:
    cut = clipped_move(np.array([3.0, 4.0], np.float32), 1.0)
    assert cut.dtype == np.float32
    assert cut.tolist() == pytest.approx([0.6, 0.8])
    short = np.array([0.3, 0.4], np.float32)
    assert clipped_move(short, 1.0).tobytes() == short.tobytes()
    assert clipped_move(np.zeros(3, np.float32), 1.0).tolist() == [0.0] * 3


def test_a_league_too_small_is_refused_with_the_figure_and_one_large_enough_is_not() -> None:
    config, size = league(2), 100
    ratio = noise_multiplier(config) * math.sqrt(size) / 2
    assert ratio > MOST
    with pytest.raises(PrivacyError, match=f"is {ratio:.1f} times") as fault:
        require_sites(config, size)
    need = math.ceil(ratio * 2 / MOST)
    assert f"takes {need} honest sites" in fault.value.why
    assert "distributed" in fault.value.next_step
    require_sites(league(need), size)
    with pytest.raises(PrivacyError):
        require_sites(league(need - 1), size)


def test_a_site_asks_before_its_first_round() -> None:
    config = league(2)
    size = Parts(drawn_site(0), config).form.size
    need = math.ceil(noise_multiplier(config) * math.sqrt(size) / MOST)
    with pytest.raises(PrivacyError, match="hides a whole site"):
        Site(drawn_site(0), league(2)).prepare()
    assert Site(drawn_site(0), league(need)).prepare() == {}


def test_a_sites_update_is_its_move_cut_to_the_clip_and_tells_no_figures() -> None:
    config = with_overrides(league(40), {"ranker.strength": 0.1})
    site = Site(drawn_site(0, n_users=60, n_items=40, events=900), config)
    first = site.initial()
    result = site.train(first, 1)
    move = site.parts.moves(site.arrays(first))["ranker"]
    assert np.linalg.norm(move) > 0.15
    assert np.linalg.norm(result.update) == pytest.approx(0.15, rel=1e-5)
    assert result.update == pytest.approx(move * 0.15 / np.linalg.norm(move), rel=1e-4)
    assert result.metrics == {}
    assert site.train(first, 1).update.tobytes() == result.update.tobytes()

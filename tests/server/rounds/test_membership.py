"""Between two rounds: who left the list is out, who came is asked once, and all agree on the layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.files import read_json
from common.protocol import wire
from tests.server.tiny_league import OTHER, Answer, Asked, SiteFault, Tiny, TinySite


def _fail(asked: Asked, answer: Answer) -> None:
    if asked.kind == wire.PREPARE:
        raise SiteFault("no disk")


def test_where_nothing_changed_nobody_is_asked(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, {"a": TinySite(), "b": TinySite()})
    assert tiny.look() == ([], [])
    assert (tiny.tiny_grid.sent, tiny.heard) == ([], [])
    assert tiny.state.weights == {"a": 1.0, "b": 1.0}


def test_a_member_that_left_the_list_is_out(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, {"a": TinySite(), "b": TinySite(), "c": TinySite()})
    tiny.league = replace(tiny.league, members=("a",))
    assert tiny.look() == ([], [])
    assert tiny.state.weights == {"a": 1.0}
    assert tiny.heard == ["Left the league: site 'b'", "Left the league: site 'c'"]


def test_who_was_away_and_comes_joins_with_its_weight(tmp_path: Path) -> None:
    sites = {
        "c": TinySite(),
        "d": TinySite(layout=OTHER),
        "b": TinySite(bucket=4),
        "e": TinySite(spoil=_fail),
        "a": TinySite(bucket=8),
        "held": TinySite(),
    }
    tiny = Tiny(tmp_path, sites, held_out=["held"], away=["a", "b", "d", "e", "held"])
    tiny.state = tiny.fresh(["c"])
    tiny.tiny_grid.backwards = True  # answers come in another order than the names
    assert tiny.look() == ([], []), "they are still away"
    tiny.tiny_grid.connected = list(sites)
    connected, joined = tiny.look()
    assert (sorted(connected), joined) == (["a", "b", "d", "e", "held"], ["a", "b"])
    assert list(tiny.state.weights.items()) == [("a", 4.0), ("b", 2.0), ("c", 1.0)]
    assert sorted(tiny.roster.nodes) == sorted(sites)
    assert [line for line in tiny.heard if "has come" not in line] == [
        "Left out: another layout than the league's (site 'd')",
        "Left out: the site reported an error: no disk (site 'e')",
        "Joined the league: site 'a'",
        "Joined the league: site 'b'",
    ]
    prepared = [name for name, kind in tiny.tiny_grid.sent if kind == wire.PREPARE]
    assert prepared == ["a", "b", "d", "e"]
    sites["e"].spoil = lambda asked, answer: None
    assert tiny.look() == ([], []), "who was turned away isn't asked again"
    assert len([name for name, kind in tiny.tiny_grid.sent if kind == wire.PREPARE]) == 4


def test_a_member_that_comes_back_is_connected_and_has_nothing_to_join(tmp_path: Path) -> None:
    sites = {"a": TinySite(), "b": TinySite()}
    tiny = Tiny(tmp_path, sites, away=["b"])
    tiny.tiny_grid.connected = list(sites)
    assert tiny.look() == (["b"], [])
    assert sites["b"].of(wire.PREPARE) == []
    assert tiny.state.weights == {"a": 1.0, "b": 1.0}


def test_who_watches_learns_of_the_newcomer(tmp_path: Path) -> None:
    sites = {"a": TinySite(), "b": TinySite()}
    tiny = Tiny(tmp_path, sites, away=["b"], watched=True)
    assert tiny.look() == ([], [])
    assert not (tiny.folder.state / "live.json").exists()
    tiny.tiny_grid.connected = list(sites)
    assert tiny.look() == (["b"], [])
    assert sorted(read_json(tiny.folder.state / "live.json")["sites"]) == ["a", "b"]

"""Before round 1: who agrees with most, what each weighs, and one first model that all would draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.errors import QuorumError
from common.protocol import wire
from common.protocol.wire import Header
from server.rounds.prepare import Ready
from tests.server.tiny_league import (
    LAYOUT,
    OTHER,
    Answer,
    Asked,
    SiteFault,
    Tiny,
    TinySite,
    own_time,
)


def _fail(asked: Asked, answer: Answer) -> None:
    raise SiteFault("no disk")


def _initial(change: Any) -> Any:
    """Spoils the answer that brings the first model, and no other."""

    def spoil(asked: Asked, answer: Answer) -> None:
        if asked.header.plan["initial"]:
            change(asked, answer)

    return spoil


def _five() -> dict[str, TinySite]:
    return {
        "a": TinySite(spoil=_fail),
        "b": TinySite(bucket=4, first=(0.5, -2.0)),
        "c": TinySite(layout=OTHER, first=(0.5, -2.0)),
        "d": TinySite(first=(0.5, 2.0)),
        "e": TinySite(bucket=8, first=(0.5, -2.0)),
        "f": TinySite(silent=[wire.PREPARE]),
        "g": TinySite(bucket=41, first=(0.5, -2.0)),
    }


def test_who_agrees_with_most_is_in_with_its_weight_and_the_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_time(monkeypatch)
    sites = _five() | {"held": TinySite(), "y": TinySite()}
    tiny = Tiny(tmp_path, sites, held_out=["held"], away=["y"], quorum=0.25, optimiser="momentum")
    state = tiny.prepare()
    assert state.weights == {"b": 2.0, "e": 4.0}
    assert list(state.weights) == ["b", "e"]
    assert state.layout == LAYOUT
    assert state.vector.tolist() == [0.5, -2.0]
    assert state.vector.flags.writeable, "the message's own bytes would be kept otherwise"
    assert state.optimiser.state()["optimiser.m"].tolist() == [0.0, 0.0]
    assert (state.round, state.best_round, state.best_metric, state.measured) == (0, None, None, False)
    assert (state.best_figures, state.history) == ({}, [])
    assert tiny.heard == [
        "prepare 1/7  a",
        "prepare 2/7  b",
        "prepare 3/7  c",
        "prepare 4/7  d",
        "prepare 5/7  e",
        "prepare 6/7  g",
        "prepare 7/7  f",
        "Left out: the site reported an error: no disk (site 'a', prepare)",
        "Left out: another layout or first model than most (site 'c', prepare)",
        "Left out: another layout or first model than most (site 'd', prepare)",
        "Left out: no reply before the deadline (site 'f', prepare)",
        "Left out: the size bucket is outside [0, 40] (site 'g', prepare)",
    ]


def test_each_is_asked_once_and_one_alone_for_the_bytes(tmp_path: Path) -> None:
    sites = {"a": TinySite(layout=OTHER), "b": TinySite(), "c": TinySite()}
    tiny = Tiny(tmp_path, sites)
    tiny.prepare()
    assert tiny.tiny_grid.sent == [(name, wire.PREPARE) for name in ("a", "b", "c", "b")]
    first, second = sites["b"].asked
    assert (first.group, second.group) == ("prepare", "initial")
    assert (first.ttl, second.ttl) == (60.0, 60.0)
    assert first.header == Header(tiny.league.run, plan={"initial": False})
    assert second.header == Header(tiny.league.run, plan={"initial": True})
    assert first.vector is second.vector is None


def test_too_few_that_agree_end_the_run_naming_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_time(monkeypatch)
    tiny = Tiny(tmp_path, _five() | {"y": TinySite()}, away=["y"], quorum=0.375)
    with pytest.raises(QuorumError) as caught:
        tiny.prepare()
    assert caught.value.what == "2 of 8 sites took part, but the quorum is 3"
    assert caught.value.where == "prepare"
    assert caught.value.why == (
        "'a': the site reported an error: no disk; 'c': another layout or first model than most; "
        "'d': another layout or first model than most; 'f': no reply before the deadline; "
        "'g': the size bucket is outside [0, 40]; 'y': no answer"
    )


def test_where_nobody_gets_ready_the_run_ends(tmp_path: Path) -> None:
    with pytest.raises(QuorumError, match="0 of 2 sites took part"):
        Tiny(tmp_path, {"a": TinySite(spoil=_fail), "b": TinySite(spoil=_fail)}).prepare()


def _silent_later(site: TinySite) -> TinySite:
    site.spoil = lambda asked, answer: setattr(site, "silent", [wire.PREPARE])
    return site


def _vector(*values: float) -> Any:
    def change(asked: Asked, answer: Answer) -> None:
        answer.vector = np_vector(values)

    return change


def np_vector(values: Any) -> Any:
    import numpy as np

    return np.array(values, dtype=np.float32)


def _plan(**plan: Any) -> Any:
    def change(asked: Asked, answer: Answer) -> None:
        answer.header.plan.update(plan)

    return change


def _no_layout(asked: Asked, answer: Answer) -> None:
    del answer.header.plan["layout"]


def _states_other(asked: Asked, answer: Answer) -> None:
    answer.header = Header(asked.header.run, 0, answer.header.site, OTHER.digest, plan=answer.header.plan)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_fail, "the site reported an error: no disk"),
        (_vector(0.0, 1.0), "the first model differs from the one most sites drew"),
        (_vector(0.0), "not 2 numbers"),
        (_plan(layout=OTHER.to_json()), "the first model differs from the one most sites drew"),
        (_plan(layout="[]["), "the layout can't be read"),
        (_no_layout, "the layout can't be read"),
        (_states_other, "the reply's parameters have another layout"),
    ],
)
def test_bytes_that_arent_what_most_drew_are_fetched_from_the_next(
    spoil: Any, said: str, tmp_path: Path
) -> None:
    sites = {"a": TinySite(spoil=_initial(spoil)), "b": TinySite(), "c": TinySite()}
    tiny = Tiny(tmp_path, sites)
    state = tiny.prepare()
    assert state.vector.tolist() == [0.0, 0.0]
    assert list(state.weights) == ["a", "b", "c"], "it takes part: its first answer was good"
    assert [name for name, _ in tiny.tiny_grid.sent] == ["a", "b", "c", "a", "b"]
    for site in sites.values():
        site.spoil = _initial(spoil)
    with pytest.raises(QuorumError) as caught:
        tiny.prepare()
    assert (caught.value.what, caught.value.where) == ("no site gave the first model", "prepare")
    for part, name in zip(caught.value.why.split("; "), sites, strict=True):
        assert said in part
        assert f"(site '{name}', round 0" in part


def test_a_site_that_falls_silent_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_time(monkeypatch)
    sites = {"a": _silent_later(TinySite()), "b": TinySite()}
    assert Tiny(tmp_path / "one", sites).prepare().vector.tolist() == [0.0, 0.0]
    with pytest.raises(QuorumError) as caught:
        Tiny(tmp_path / "two", {"a": _silent_later(TinySite())}).prepare()
    assert caught.value.why == "no reply before the deadline (site 'a', round 0)"


def test_a_first_model_of_no_numbers_is_none_though_all_agree_on_it(tmp_path: Path) -> None:
    sites = {name: TinySite(first=(0.0, float("nan"))) for name in ("a", "b")}
    with pytest.raises(QuorumError, match="no site gave the first model") as caught:
        Tiny(tmp_path, sites).prepare()
    assert "1 of 2 values are NaN or infinite" in caught.value.why


def test_some_may_be_asked_alone_and_unheard(tmp_path: Path) -> None:
    sites = {"a": TinySite(bucket=4), "b": TinySite(spoil=_fail), "c": TinySite()}
    sites["c"].spoil = lambda asked, answer: answer.header.plan.pop("initial")
    tiny = Tiny(tmp_path, sites)
    answers, reasons = tiny.ask_members(["a", "b", "c"])
    digest = wire.vector_digest(np_vector([0.0, 0.0]))
    assert answers == {"a": Ready(LAYOUT.digest, digest, 2.0), "c": Ready(LAYOUT.digest, "", 1.0)}
    assert reasons == {"b": "the site reported an error: no disk"}
    assert tiny.heard == []

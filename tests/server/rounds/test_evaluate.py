"""After the last round: the last model's figures, and the phases in which each answer is kept as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import QuorumError
from common.files import append_line, read_lines
from common.protocol import wire
from common.protocol.wire import Header
from server.rounds.evaluate import results_file
from tests.server.tiny_league import (
    LAYOUT,
    METRIC,
    OTHER,
    Answer,
    Asked,
    SiteFault,
    Tiny,
    TinySite,
    first_number,
    own_time,
    says,
)


def _fail(asked: Asked, answer: Answer) -> None:
    raise SiteFault("no disk")


def _other_layout(asked: Asked, answer: Answer) -> None:
    answer.header = Header(asked.header.run, asked.header.round, answer.header.site, OTHER.digest)


def _other_round(asked: Asked, answer: Answer) -> None:
    answer.header = Header(asked.header.run, asked.header.round + 1, answer.header.site, LAYOUT.digest)


def _sites() -> dict[str, TinySite]:
    return {
        "a": TinySite(figures=first_number, spoil=_fail),
        "b": TinySite(figures=first_number, silent=[wire.MEASURE, wire.EVALUATE_FINAL]),
        "c": TinySite(figures=first_number, spoil=_other_layout),
        "d": TinySite(figures=says(0.75)),
        "e": TinySite(figures=first_number, spoil=_other_round),
        "f": TinySite(figures=first_number),
        "held": TinySite(figures=first_number),
        "y": TinySite(figures=first_number),
    }


LEFT_OUT = [
    "Left out: the site reported an error: no disk (site 'a', round 4)",
    "Left out: the reply's parameters have another layout (site 'c', round 4)",
    "Left out: the reply belongs to round 5 (site 'e', round 4)",
    "Left out: no reply before the deadline (site 'b', round 4)",
]


def test_the_last_model_gets_its_figures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_time(monkeypatch)
    sites = _sites()
    tiny = Tiny(tmp_path, sites, held_out=["held"], away=["y"], quorum=1 / 3)
    tiny.state = tiny.fresh(["f", "e", "d", "c", "b", "a", "y"], vector=(0.25, 0.0))
    tiny.state.round = 4
    tiny.measure_last()
    assert (tiny.state.best_round, tiny.state.best_metric) == (4, 0.5)
    assert tiny.state.best_figures == {"d": {METRIC: 0.75}, "f": {METRIC: 0.25}}
    assert list(tiny.state.best_figures) == ["d", "f"]
    assert tiny.heard == LEFT_OUT
    assert [name for name, _ in tiny.tiny_grid.sent] == ["a", "b", "c", "d", "e", "f"]
    [asked] = sites["f"].asked
    assert (asked.kind, asked.group, asked.ttl) == (wire.MEASURE, "measure", 60.0)
    assert asked.header == Header(tiny.league.run, 4, layout=LAYOUT.digest)
    assert asked.vector is not None
    assert asked.vector.tolist() == [0.25, 0.0]
    assert tiny.state.measured
    assert (tiny.folder.state / "round-0004.json").exists(), "what was measured lies on the disk"
    tiny.measure_last()
    assert len(tiny.tiny_grid.sent) == 6


def test_too_few_figures_of_the_last_model_end_the_run(tmp_path: Path) -> None:
    sites = {"a": TinySite(spoil=_fail), "b": TinySite(), "y": TinySite()}
    tiny = Tiny(tmp_path, sites, away=["y"], quorum=0.75)
    with pytest.raises(QuorumError) as caught:
        tiny.measure_last()
    assert caught.value.what == "1 of 2 sites took part, but the quorum is 2"
    assert (caught.value.where, caught.value.why) == ("measuring the last model", "'a': no answer")
    assert not tiny.state.measured
    assert not (tiny.folder.state / "round-0000.json").exists()


def test_the_last_model_stays_at_the_sites_where_they_hold_it(tmp_path: Path) -> None:
    sites = {"a": TinySite(figures=says(0.5))}
    Tiny(tmp_path / "he", sites, protection="he").measure_last()
    assert sites["a"].asked[-1].vector is None
    Tiny(tmp_path / "masked", sites, protection="masked").measure_last()
    assert sites["a"].asked[-1].vector is not None


def test_a_phase_keeps_each_answer_and_asks_only_who_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_time(monkeypatch)
    sites = _sites() | {"z": TinySite()}
    tiny = Tiny(tmp_path, sites, away=["y"], quorum=0.25)
    tiny.state.round = 4
    path = results_file(tiny.folder.state, wire.EVALUATE_FINAL)
    assert path == tmp_path / "state" / "evaluate.final.jsonl"
    append_line(path, {"site": "z", "metrics": {METRIC: 0.125}})
    names = ["z", "y", "f", "e", "d", "c", "b", "a"]
    found = tiny.evaluate(names, (0.25, 1.0), best=3)
    figures = {"z": {METRIC: 0.125}, "f": {METRIC: 0.25}, "d": {METRIC: 0.75}}
    assert found == figures
    assert list(found) == ["z", "f", "d"], "in the order of the asked"
    assert {str(line["site"]): line["metrics"] for line in read_lines(path)} == figures
    assert [name for name, _ in tiny.tiny_grid.sent] == ["f", "e", "d", "c", "b", "a"]
    assert tiny.heard == [
        "evaluate.final 2/8  f",
        LEFT_OUT[2],
        "evaluate.final 3/8  d",
        LEFT_OUT[1],
        LEFT_OUT[0],
        LEFT_OUT[3],
    ]
    [asked] = sites["f"].asked
    assert (asked.kind, asked.group, asked.ttl) == (wire.EVALUATE_FINAL, wire.EVALUATE_FINAL, 60.0)
    assert asked.header == Header(tiny.league.run, 4, layout=LAYOUT.digest, plan={"best": 3})
    assert asked.vector is not None
    assert asked.vector.tolist() == [0.25, 1.0]


def test_a_phase_without_a_quorum_ends_with_the_reasons_and_keeps_what_came(tmp_path: Path) -> None:
    sites = {"a": TinySite(spoil=_fail), "b": TinySite(figures=first_number), "y": TinySite()}
    tiny = Tiny(tmp_path, sites, away=["y"], quorum=0.5)
    with pytest.raises(QuorumError) as caught:
        tiny.evaluate(["a", "b", "y"], None)
    assert caught.value.what == "1 of 3 sites took part, but the quorum is 2"
    assert (caught.value.where, caught.value.why) == (
        wire.EVALUATE_FINAL,
        "'a': the site reported an error: no disk; 'y': no answer",
    )
    [asked] = sites["b"].asked
    assert asked.vector is None
    assert asked.header.plan == {"best": 0}
    sites["a"].spoil = lambda asked, answer: None
    assert list(tiny.evaluate(["a", "b", "y"], None)) == ["a", "b"]
    assert len(sites["b"].asked) == 1

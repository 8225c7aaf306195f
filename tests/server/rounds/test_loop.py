"""The rounds themselves on models of two numbers: what moves, what is written down, and what takes a round back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import QuorumError, RunError
from common.privacy.receipts import LedgerHead, read_receipt
from common.protocol import wire
from common.protocol.wire import Header
from common.secagg.suspicion import SumRefusal, to_json
from server.run.state import METRIC
from server.run.stopping import ask_to_stop
from tests.server.tiny_league import (
    LAYOUT,
    Answer,
    Asked,
    SiteFault,
    TestClock,
    Tiny,
    TinySite,
    first_number,
    own_time,
    says,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TestClock:
    return own_time(monkeypatch)


def _three(**alike: Any) -> dict[str, TinySite]:
    """Weights 1, 1 and 2: the mean of their updates is (0.75, 0.75)."""
    return {
        "a": TinySite(update=(1.0, 0.0), bucket=0, **alike),
        "b": TinySite(update=(0.0, 1.0), bucket=0, **alike),
        "c": TinySite(update=(1.0, 1.0), bucket=4, **alike),
    }


def test_the_weighted_mean_moves_the_model_by_the_agreed_rate(clock: TestClock, tmp_path: Path) -> None:
    tiny = Tiny(tmp_path, _three(), count=2, server_learning_rate=0.5)
    tiny.state = tiny.fresh(["c", "a", "b"], vector=(1.0, -1.0))
    state = tiny.run()
    assert state.vector.tolist() == [1.75, -0.25]
    assert state.round == 2
    received = [asked.vector.tolist() for asked in tiny.sites["a"].of(wire.TRAIN) if asked.vector is not None]
    assert received == [[1.0, -1.0], [1.375, -0.625]]


def test_each_order_states_round_layout_and_protection_and_lasts_for_the_rounds_time(
    clock: TestClock, tmp_path: Path
) -> None:
    tiny = Tiny(tmp_path, _three(), count=2)
    tiny.run()
    first, second = tiny.sites["b"].of(wire.TRAIN)
    assert (first.group, second.group) == ("1", "2")
    assert (first.ttl, second.ttl) == (60.0, 60.0)
    assert first.header == Header(tiny.league.run, 1, layout=LAYOUT.digest, protection="plain")
    assert second.header == Header(tiny.league.run, 2, layout=LAYOUT.digest, protection="plain")
    assert [kind for _, kind in tiny.tiny_grid.sent] == [wire.TRAIN] * 6


def _work(clock: TestClock, seconds: float) -> Any:
    return lambda asked, answer: clock.sleep(seconds)


def test_the_log_tells_all_of_a_round(clock: TestClock, tmp_path: Path) -> None:
    sites = {
        "a": TinySite(figures=lambda asked: {METRIC: 0.25, "train/loss": 1.0}, spoil=_work(clock, 0.12344)),
        "b": TinySite(figures=lambda asked: {METRIC: 0.75, "train/loss": 2.0}, bucket=4),
        "c": TinySite(spoil=lambda asked, answer: answer.header.plan.clear()),
        "y": TinySite(),
    }
    tiny = Tiny(tmp_path, sites, away=["y"])
    tiny.run()
    assert tiny.lines == [
        {
            "round": 1,
            "loss": 1.5,
            "metrics": {METRIC: 0.5, "train/loss": 1.5},
            "sites": {
                "a": {METRIC: 0.25, "train/loss": 1.0},
                "b": {METRIC: 0.75, "train/loss": 2.0},
            },
            "cohort": ["a", "b", "c", "y"],
            "weights": {"a": 1.0, "b": 2.0},
            "quarantined": [
                {"site": "c", "reason": "the reply states no weight"},
                {"site": "y", "reason": "not connected"},
            ],
            "bytes": {"down": 32, "up": 16},
            "undone": "",
            "groups_refused": 0,
            "named": [],
            "seconds": 0.1234,
        }
    ]
    assert tiny.heard == [
        "Quarantined: the reply states no weight (site 'c', round 1)",
        "Quarantined: not connected (site 'y', round 1)",
        "round 1/1  loss 1.5000  ndcg@20 0.5000",
    ]
    assert tiny.state.history == [{"round": 1, "metrics": {METRIC: 0.5, "train/loss": 1.5}}]


@pytest.mark.parametrize(
    ("told", "loss"),
    [
        ({"train/loss": 1.0, "loss": 2.0, "valid/loss": 3.0}, 1.0),
        ({"loss": 2.0, "valid/loss": 3.0}, 2.0),
        ({"valid/loss": 3.0}, 3.0),
        ({"train/loss": 0.0, "loss": 2.0}, 0.0),
        ({"other": 1.0}, None),
    ],
)
def test_the_loss_of_a_round_is_the_first_that_sites_tell(
    told: dict[str, float], loss: float | None, tmp_path: Path
) -> None:
    tiny = Tiny(tmp_path, {"a": TinySite(figures=lambda asked: told)})
    tiny.run()
    assert tiny.lines[0]["loss"] == loss
    assert tiny.heard == ["round 1/1" + ("" if loss is None else f"  loss {loss:.4f}")]


def _fault(asked: Asked, answer: Answer) -> None:
    raise SiteFault("no disk")


def _other_layout(asked: Asked, answer: Answer) -> None:
    answer.header = Header(asked.header.run, asked.header.round, answer.header.site, "other")


def _flood(asked: Asked, answer: Answer) -> None:
    answer.metrics = {f"m{number}": 0.0 for number in range(513)}


def _nan(asked: Asked, answer: Answer) -> None:
    answer.vector = np.array([np.nan, 0.0], dtype=np.float32)


def _bad_head(asked: Asked, answer: Answer) -> None:
    answer.header.plan["ledger"] = "[]"


def test_a_bad_reply_costs_its_own_sites_update_and_no_other(clock: TestClock, tmp_path: Path) -> None:
    bad = {
        "b1": (TinySite(spoil=_fault), "the site reported an error: no disk"),
        "b2": (TinySite(silent=[wire.TRAIN]), "no reply before the deadline"),
        "b3": (TinySite(spoil=_other_layout), "the reply's parameters have another layout"),
        "b4": (TinySite(spoil=_flood), "the reply holds 513 figures"),
        "b5": (TinySite(spoil=_nan), "1 of 2 values are NaN or infinite, the first at 0"),
        "b6": (TinySite(spoil=_bad_head), "the head of a privacy ledger can't be read"),
        "b7": (TinySite(), "not connected"),
    }
    for backwards in (False, True):
        sites = _three() | {name: site for name, (site, _) in bad.items()}
        tiny = Tiny(tmp_path / str(backwards), sites, away=["b7"], quorum=0.25, count=2)
        tiny.tiny_grid.backwards = backwards
        assert tiny.run().vector.tolist() == [1.5, 1.5]
        for line in tiny.lines:
            assert line["cohort"] == ["a", "b", *bad, "c"]
            assert [entry["site"] for entry in line["quarantined"]] == list(bad)
            reasons = {entry["site"]: entry["reason"] for entry in line["quarantined"]}
            assert reasons == {name: reason for name, (_, reason) in bad.items()}
            assert line["weights"] == {"a": 1.0, "b": 1.0, "c": 2.0}
            assert line["bytes"] == {"down": 80, "up": 24}
    assert clock.now == pytest.approx(1000.0 + 4 * 60.0, abs=4.0)


def test_too_few_good_replies_end_the_run_with_all_before_kept(tmp_path: Path) -> None:
    sites = _three()
    sites["b"].spoil = lambda asked, answer: _fault(asked, answer) if asked.header.round == 2 else None
    tiny = Tiny(tmp_path, sites, count=3, quorum=1.0)
    with pytest.raises(QuorumError) as caught:
        tiny.run()
    assert caught.value.what == "2 of 3 sites took part, but the quorum is 3"
    assert (caught.value.where, caught.value.why) == (
        "round 2",
        "'b': the site reported an error: no disk",
    )
    assert (tiny.state.round, len(tiny.lines)) == (1, 1)
    assert tiny.state.vector.tolist() == [0.75, 0.75]
    assert sorted(path.name for path in tiny.folder.state.glob("round-*.json")) == ["round-0001.json"]
    sites["b"].spoil = lambda asked, answer: None
    assert tiny.run().vector.tolist() == [2.25, 2.25], "it goes on at its round"
    assert tiny.heard[-2:] == ["round 2/3", "round 3/3"]
    assert [line["round"] for line in tiny.lines] == [1, 2, 3]


def test_a_finished_run_asks_nobody(tmp_path: Path) -> None:
    for protection in ("plain", "he"):
        tiny = Tiny(tmp_path / protection, _three(), count=2, protection=protection)
        tiny.state.round = 2
        tiny.run()
        assert (tiny.tiny_grid.sent, tiny.lines, tiny.heard) == ([], [], [])


def test_a_stop_is_obeyed_between_rounds(tmp_path: Path) -> None:
    sites = _three()
    tiny = Tiny(tmp_path, sites, count=3)
    sites["a"].spoil = lambda asked, answer: ask_to_stop(tiny.folder)
    with pytest.raises(RunError, match="stopped after round 1, as asked"):
        tiny.run()
    assert (len(tiny.lines), tiny.state.round) == (1, 1)
    with pytest.raises(RunError, match="stopped after round 1, as asked"):
        tiny.run()
    assert len(sites["a"].asked) == 1


def test_figures_are_of_the_model_that_was_received(tmp_path: Path) -> None:
    """Models of value 0, 0.5, 1, 0.5: the third round's figures are the best, and of the model after two rounds."""
    moves = [0.5, 0.5, -0.5, 0.0]
    sites = {
        "a": TinySite(update=lambda asked: (moves[asked.header.round - 1], 0.0), figures=first_number),
    }
    tiny = Tiny(tmp_path, sites, count=4)
    state = tiny.run()
    assert (state.best_round, state.best_metric) == (2, 1.0)
    assert state.best_figures == {"a": {METRIC: 1.0}}
    assert [each["metrics"][METRIC] for each in state.history] == [0.0, 0.5, 1.0, 0.5]
    # The best model's checkpoint is kept beside the last two.
    assert sorted(path.stem for path in tiny.folder.state.glob("round-*.json")) == [
        f"round-{number:04d}" for number in (2, 3, 4)
    ]
    kept = json.loads((tiny.folder.state / "round-0004.json").read_text())["loop"]
    assert (kept["best_round"], kept["history"]) == (2, state.history)


def _guarded(tmp_path: Path, moves: Sequence[float], **rounds: Any) -> Tiny:
    """Two honest sites whose figure is the model's first number, and a liar that always says all is well."""
    sites = {
        name: TinySite(update=lambda asked: (moves[asked.header.round - 1], 0.0), figures=figures)
        for name, figures in (("a", first_number), ("b", first_number), ("liar", says(1.0)))
    }
    tiny = Tiny(tmp_path, sites, count=len(moves), **rounds)
    tiny.state = tiny.fresh(["a", "b", "liar"], vector=(0.5, 0.0))
    return tiny


def test_a_round_that_serves_the_sites_much_worse_is_taken_back_with_its_momentum(
    clock: TestClock, tmp_path: Path
) -> None:
    tiny = _guarded(tmp_path, [-0.25, 0.25], worst_fall=0.25, optimiser="momentum", momentum=0.5)
    state = tiny.run()
    assert state.vector.tolist() == [0.75, 0.0], (
        "0.5, undone, and then a step without the first one's momentum"
    )
    assert state.optimiser.state()["optimiser.m"].tolist() == [0.25, 0.0]
    assert [line["undone"] for line in tiny.lines] == ["the sites' valid/ndcg@20 fell by 50 %", ""]
    assert tiny.heard[0] == "Undone: the sites' valid/ndcg@20 fell by 50 % (round 1)"
    assert tiny.heard[1].startswith("round 1/2")
    assert (state.best_round, state.best_metric) == (0, 0.5)
    measured = tiny.sites["a"].of(wire.MEASURE)
    assert [asked.header.round for asked in measured] == [1, 2]
    models = [asked.vector.tolist() for asked in measured if asked.vector is not None]
    assert models == [[0.25, 0.0], [0.75, 0.0]]
    assert [asked.ttl for asked in measured] == [60.0, 60.0]
    assert [asked.ttl for asked in tiny.sites["a"].of(wire.TRAIN)] == [54.0, 54.0]


@pytest.mark.parametrize(
    ("worst", "undone"), [(0.0, False), (0.5, False), (0.75, False), (0.499, True), (0.01, True)]
)
def test_a_fall_is_too_far_where_it_is_more_than_the_contract_allows(
    worst: float, undone: bool, tmp_path: Path
) -> None:
    tiny = _guarded(tmp_path, [-0.25], worst_fall=worst)
    state = tiny.run()
    assert state.vector.tolist() == ([0.5, 0.0] if undone else [0.25, 0.0])
    assert (tiny.lines[0]["undone"] != "") == undone
    assert bool(tiny.sites["a"].of(wire.MEASURE)) == (worst > 0)


@pytest.mark.parametrize(("malicious", "undone"), [(0, False), (1, True)])
def test_the_contract_says_how_many_lies_the_guard_stands(
    malicious: int, undone: bool, tmp_path: Path
) -> None:
    """The honest lose half of their figure; the mean with the lie, which loses nothing, is a third."""
    tiny = _guarded(tmp_path, [-0.25], worst_fall=0.4, malicious_sites=malicious)
    tiny.run()
    assert bool(tiny.lines[0]["undone"]) == undone


def test_small_falls_add_up_to_one_that_is_too_far(tmp_path: Path) -> None:
    tiny = _guarded(tmp_path, [-0.125, -0.125, 0.0], worst_fall=0.375)
    assert tiny.run().vector.tolist() == [0.375, 0.0]
    assert [bool(line["undone"]) for line in tiny.lines] == [False, True, False]


def test_the_guard_has_what_training_left_of_the_time(clock: TestClock, tmp_path: Path) -> None:
    tiny = _guarded(tmp_path, [0.25], worst_fall=0.25)
    tiny.sites["a"].spoil = _work(clock, 10.0)
    tiny.run()
    assert tiny.sites["b"].of(wire.MEASURE)[0].ttl == 50.0


def _drawn(tiny: Tiny, seed: int, round_: int, size: int) -> list[str]:
    names = sorted(tiny.state.weights)
    places = np.random.default_rng([seed, round_]).choice(len(names), size=size, replace=False)
    return [names[place] for place in sorted(places)]


@pytest.mark.parametrize(("fraction", "size"), [(0.01, 1), (0.5, 3), (0.6, 3), (0.61, 4), (0.8, 4), (1.0, 5)])
def test_a_cohort_is_drawn_from_the_public_seed_alone(fraction: float, size: int, tmp_path: Path) -> None:
    sites = {name: TinySite() for name in ("e", "c", "a", "d", "b")}
    tiny = Tiny(tmp_path, sites, fraction=fraction, seed=11)
    tiny.state = tiny.fresh(["e", "c", "a", "d", "b"])
    for round_ in range(1, 20):
        drawn = tiny.cohort(round_)
        assert len(set(drawn)) == len(drawn) == size
        assert drawn == _drawn(tiny, 11, round_, size)


def test_only_who_is_drawn_is_asked(tmp_path: Path) -> None:
    sites = {name: TinySite(update=(number, 0.0)) for number, name in enumerate("abcde")}
    tiny = Tiny(tmp_path, sites, fraction=0.4, seed=3, count=2)
    tiny.run()
    asked: list[str] = []
    for round_ in (1, 2):
        drawn = _drawn(tiny, 3, round_, 2)
        assert tiny.lines[round_ - 1]["cohort"] == drawn
        asked += drawn
    assert tiny.tiny_grid.sent == [(name, wire.TRAIN) for name in asked]
    assert tiny.state.vector[0] == sum("abcde".index(name) for name in asked) / 2


def _refuse(folder: Path, *groups: Sequence[str]) -> None:
    """Refusals of the first rounds, one group each."""
    refusals = [
        SumRefusal(round_, (("label", tuple(group)), ("other", ("x",))), (0,))
        for round_, group in enumerate(groups, 1)
    ]
    (folder / "state" / "refusals.json").write_text(to_json(refusals))


def test_who_spoiled_groups_is_drawn_no_more_from_the_next_round_on(tmp_path: Path) -> None:
    sites = {name: TinySite() for name in "abcde"}
    tiny = Tiny(tmp_path, sites, seed=1)
    _refuse(tmp_path, ["a", "b", "c"], ["a", "d", "e"])
    assert tiny.cohort(2) == list("abcde")
    assert tiny.cohort(3) == list("bcde")
    half = Tiny(tmp_path / "half", sites, fraction=0.5, seed=1)
    _refuse(tmp_path / "half", ["a", "b", "c"], ["a", "d", "e"])
    places = np.random.default_rng([1, 3]).choice(4, size=2, replace=False)
    assert half.cohort(3) == ["bcde"[place] for place in sorted(places)], "half of the four that are left"


HEAD = LedgerHead("a" * 32, 7, "b" * 64)


def test_a_sites_receipt_comes_back_with_its_next_order_and_with_no_other(tmp_path: Path) -> None:
    sites = _three()
    sites["b"].spoil = lambda asked, answer: answer.header.plan.update(ledger=HEAD.to_json())
    tiny = Tiny(tmp_path, sites, count=2)
    tiny.run()
    first, second = sites["b"].of(wire.TRAIN)
    assert first.header.plan == {}
    head, _ = read_receipt(str(second.header.plan["receipt"]), "b")
    assert head == HEAD
    assert second.vector is not None
    assert second.vector.tolist() == [0.75, 0.75]
    for name in ("a", "c"):
        assert [asked.header.plan for asked in sites[name].of(wire.TRAIN)] == [{}, {}]


def test_who_comes_between_two_rounds_takes_part_in_the_next(tmp_path: Path) -> None:
    sites = _three() | {"d": TinySite(update=(4.0, 0.0), bucket=8)}
    tiny = Tiny(tmp_path, sites, away=["d"], count=2)
    tiny.state = tiny.fresh(["a", "b", "c"])

    def come(asked: Asked, answer: Answer) -> None:
        tiny.tiny_grid.connected = list(sites)

    sites["a"].spoil = come
    state = tiny.run()
    # (0.75, 0.75), and then (3 + 4·4, 3) / 8 more.
    assert state.vector.tolist() == [0.75 + 19 / 8, 0.75 + 3 / 8]
    assert [line["cohort"] for line in tiny.lines] == [["a", "b", "c"], ["a", "b", "c", "d"]]
    assert list(state.weights.items()) == [("a", 1.0), ("b", 1.0), ("c", 2.0), ("d", 4.0)]


def test_the_log_of_a_round_is_written_before_its_checkpoint(tmp_path: Path) -> None:
    """A line without its checkpoint is cut when the run resumes; a checkpoint without its line would be refused."""
    tiny = Tiny(tmp_path, _three(), count=1)
    os.mkdir(tiny.folder.state / "round-0001.json")
    with pytest.raises(OSError, match=r"round-0001\.json"):
        tiny.run()
    assert [line["round"] for line in tiny.lines] == [1]

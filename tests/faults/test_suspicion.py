"""A site that spoils its groups is found by those that were refused, and the others train on without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from flwr.app import Context, Error, Message

from clients.secagg.site import SecaggSite
from common.errors import QuorumError, WireError
from common.files import read_json, read_lines
from common.protocol import wire
from common.secagg.protocol import Attempt, GroupSum, groups_of
from common.secagg.suspicion import SumRefusal, refusal_of, to_json
from common.storage.run_folder import RunFolder
from tests.faults.leagues import (
    SITES,
    make_keys,
    make_league,
    model_of,
    noise_from,
    run_league,
    secagg_sites,
)

NAMES = SITES[:6]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


def _league(folder: Path, keys: Path) -> RunFolder:
    return make_league(folder, keys, 8, count=5, protection="he+masked", groups=2, colluding_sites=0)


def test_the_spoiler_is_named_after_three_refusals_and_groups_are_whole_again(
    keys: Path, tmp_path: Path
) -> None:
    run = _league(tmp_path, keys)
    run_league(run, noise_from("s5", run))
    lines = read_lines(run.rounds_file)
    when = next(line["round"] for line in lines if line["named"])
    assert when <= 3
    assert [line["named"] for line in lines] == [["s5"] if line["round"] == when else [] for line in lines]
    assert [line["groups_refused"] for line in lines] == [int(line["round"] <= when) for line in lines]
    assert [entry["site"] for entry in lines[when - 1]["quarantined"]] == ["s5"]
    for line in lines:
        assert ("s5" in line["cohort"]) == (line["round"] <= when)
        assert len(line["weights"]) == (8 if line["round"] <= when else 7)
    # The one that is out still gets the sums: a verdict over its updates isn't one over its membership.
    models = {
        (run.site_out(n) / "private" / "model" / "round-0005.safetensors").read_bytes() for n in SITES[:8]
    }
    assert len(models) == 1
    for refusal in read_json(run.state / "refusals.json"):
        assert len(refusal["signatures"]) == 8


@pytest.mark.slow
def test_a_run_that_was_stopped_draws_the_same_groups_again(keys: Path, tmp_path: Path) -> None:
    run, whole = _league(tmp_path / "a", keys), _league(tmp_path / "b", keys)
    noise = noise_from("s5", run)

    def stopped(site: str, message: Message, context: Context) -> Message | None:
        header = wire.read_header(message.content, where="test")
        if header.plan.get("step") == "apply" and header.plan["round"] == 2:
            return Message(Error(9, "gone"), reply_to=message)
        return noise(site, message, context)

    with pytest.raises(QuorumError):
        run_league(run, stopped)
    run_league(run, noise)
    run_league(whole, noise_from("s5", whole))
    assert model_of(run.release) == model_of(whole.release)
    assert [line["cohort"] for line in read_lines(run.rounds_file)] == [
        line["cohort"] for line in read_lines(whole.rounds_file)
    ]


def test_a_contract_that_allows_no_liar_puts_nobody_out(keys: Path, tmp_path: Path) -> None:
    settings = {
        "count": 2,
        "protection": "he+masked",
        "groups": 2,
        "colluding_sites": 0,
        "malicious_sites": 0,
    }
    run = make_league(tmp_path, keys, 6, **settings)
    run_league(run, noise_from("s5", run))
    lines = read_lines(run.rounds_file)
    assert [(line["groups_refused"], line["named"]) for line in lines] == [(1, [])] * 2
    assert not (run.state / "refusals.json").exists()


def test_a_refusal_counts_in_a_round_that_the_trial_undoes(keys: Path, tmp_path: Path) -> None:
    settings = {"count": 2, "protection": "he+masked", "groups": 2, "colluding_sites": 0}
    run = make_league(tmp_path, keys, 6, worst_fall=0.2, server_learning_rate=40.0, **settings)
    run_league(run, noise_from("s5", run))
    assert "fell by" in read_lines(run.rounds_file)[1]["undone"]
    refusals = read_json(run.state / "refusals.json")
    assert [refusal["round"] for refusal in refusals] == [1, 2]
    for refusal in refusals:
        assert len(refusal["signatures"]) == 6
        assert "s5" in refusal["sums"][refusal["places"][0]][1]


def _refused(sites: list[SecaggSite], round_: int, members: list[str], signers: list[int]) -> SumRefusal:
    """A refusal of a group as some sites sign it."""
    others = [name for name in NAMES if name not in members]
    attempts = [Attempt(round_, "aa", dict.fromkeys(names, 1.0)) for names in (members, others)]
    sums = [GroupSum(attempt, attempt.names, []) for attempt in attempts]
    made = refusal_of(sites[0]._run, round_, sums, [0])
    message = made.message(sites[0]._run)
    signed = {sites[place].name: sites[place]._keys.sign.sign(message).hex() for place in signers}
    return SumRefusal(made.round, made.sums, made.places, signed)


def test_a_coordinator_alone_can_put_nobody_out(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 6, protection="he+masked", groups=2)
    one = sites[0]
    next_ = Attempt(3, "bb", dict.fromkeys(["s0", "s1", "s4"], 1.0))
    first = _refused(sites, 1, ["s0", "s1", "s2"], [3, 4])
    second = _refused(sites, 2, ["s0", "s3", "s4"], [3, 5])
    with pytest.raises(WireError, match="too few sites signed"):  # as many as may lie
        one.require_clean(next_, to_json([_refused(sites, 1, ["s0", "s1", "s2"], [3])]))
    borrowed = SumRefusal(second.round, second.sums, second.places, first.signatures)
    with pytest.raises(WireError, match="too few sites signed"):
        one.require_clean(next_, to_json([first, borrowed]))
    with pytest.raises(WireError, match="of other rounds"):
        one.require_clean(Attempt(2, "bb", next_.weights), to_json([first, second]))
    with pytest.raises(WireError, match="of other rounds"):
        one.require_clean(next_, to_json([first, first]))
    one.require_clean(next_, to_json([first]))
    with pytest.raises(WireError, match="keeps refusals back"):
        one.require_clean(next_, "[]")
    with pytest.raises(WireError, match="'s0' spoiled groups and is out"):
        one.require_clean(next_, to_json([first, second]))
    one.require_clean(Attempt(3, "cc", dict.fromkeys(["s1", "s2", "s4"], 1.0)), to_json([first, second]))
    one.require_clean(Attempt(2, "cc", next_.weights), to_json([first]))  # a round that is caught up with


def test_groups_other_than_those_that_the_refusals_give_are_refused(keys: Path, tmp_path: Path) -> None:
    from clients.secagg.sum_order import SumOrder

    sites = secagg_sites(tmp_path, keys, 6, protection="he+masked", groups=2)
    rounds, seed = sites[0]._config.rounds, sites[0]._config.seed
    refusals = [_refused(sites, 1, ["s0", "s1", "s2"], [3, 4])]
    suspects = ["s0", "s1", "s2"]
    # A round in which the even deal differs from the plain draw.
    round_ = next(
        n
        for n in range(2, 30)
        if groups_of(rounds, seed, n, NAMES, suspects) != groups_of(rounds, seed, n, NAMES)
    )

    def order(suspected: list[str]) -> SumOrder:
        drawn = groups_of(rounds, seed, round_, NAMES, suspected)
        sums = [GroupSum(Attempt(round_, "aa", dict.fromkeys(names, 1.0)), names, []) for names in drawn]
        return SumOrder(round_, tuple(sums), refusals=to_json(refusals))

    with pytest.raises(WireError, match="not of this round's groups"):
        sites[0]._suspicion.require_groups(order([]))
    sites[0]._suspicion.require_groups(order(suspects))

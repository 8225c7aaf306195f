"""Who spoils groups: named by intersection, never an honest site, in few rounds."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto.fields import MODULUS
from common.errors import WireError
from common.protocol.wire import Layout
from common.secagg.pipeline import Parcel, Terms, open_steps, open_sum, send
from common.secagg.protocol import Attempt, GroupSum, groups_of
from common.secagg.suspicion import Judged, from_json, judge, refusal_of, to_json
from common.settings.config import RoundsConfig

NAMES = [f"s{place:02}" for place in range(24)]


def _league(
    sites: int, groups: int, liars: Sequence[str], *, often: float, seed: int, allowed: int, rounds: int
) -> tuple[Judged, int]:
    """Rounds in which groups with a liar that lies then are refused; the verdict, and when the last one was named."""
    contract, chance = RoundsConfig(groups=groups, malicious_sites=allowed), random.Random(seed)
    refused: list[list[str]] = []
    verdict, last = Judged(), 0
    for round_ in range(1, rounds + 1):
        cohort = [name for name in NAMES[:sites] if name not in verdict.named]
        lying = [name for name in liars if chance.random() < often]
        drawn = groups_of(contract, seed, round_, cohort, verdict.suspects)
        refused += [group for group in drawn if set(group) & set(lying)]
        after = judge(refused, allowed)
        last = round_ if after.named != verdict.named else last
        verdict = after
    return verdict, last


@given(
    sites=st.integers(6, 24), groups=st.integers(2, 5), seed=st.integers(0, 2**20),
    liars=st.integers(0, 2), spare=st.integers(0, 2), often=st.sampled_from([0.3, 0.7, 1.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_no_honest_site_is_named_while_no_more_lie_than_allowed(
    sites: int, groups: int, seed: int, liars: int, spare: int, often: float
) -> None:
    chosen = random.Random(seed).sample(NAMES[:sites], liars)
    verdict, _ = _league(sites, groups, chosen, often=often, seed=seed, allowed=liars + spare, rounds=12)
    assert set(verdict.named) <= set(chosen)


@pytest.mark.parametrize(("sites", "groups"), [(6, 2), (8, 2), (9, 3), (16, 4), (24, 2)])
def test_one_liar_is_named_within_the_logarithm_of_the_group(sites: int, groups: int) -> None:
    largest = math.ceil(sites / groups)
    for seed in range(40):
        liar = NAMES[seed % sites]
        verdict, when = _league(sites, groups, [liar], often=1.0, seed=seed, allowed=1, rounds=8)
        assert verdict == Judged((liar,))
        assert when <= 1 + math.ceil(math.log2(largest))


def test_two_liars_are_named_where_two_are_allowed() -> None:
    whens = []
    for seed in range(20):
        liars = random.Random(seed).sample(NAMES[:18], 2)
        verdict, when = _league(18, 6, liars, often=1.0, seed=seed, allowed=2, rounds=30)
        assert set(verdict.named) == set(liars)
        whens.append(when)
    assert sorted(whens)[10] <= 8


def test_a_liar_that_pauses_is_named_as_soon_as_it_lied_often_enough() -> None:
    for seed in range(20):
        verdict, _ = _league(8, 2, ["s03"], often=0.5, seed=seed, allowed=1, rounds=30)
        assert verdict.named == ("s03",)


def test_more_liars_than_allowed_put_nobody_out() -> None:
    groups = [["a", "b", "c"], ["d", "e", "f"]]
    assert judge(groups, 1) == Judged()
    assert judge(groups, 0) == Judged()
    assert judge(groups, 9) == Judged()  # too many sets to look at


def test_two_that_conspire_against_a_contract_of_one_can_frame_a_third() -> None:
    """Each spoils only the groups that it shares with "v": why the contract's number must be meant."""
    assert judge([["l1", "v", "a"], ["l2", "v", "b"]], 1).named == ("v",)
    assert judge([["l1", "v", "a"], ["l2", "v", "b"]], 2).named == ()


def test_what_was_once_said_of_a_site_stands_whatever_comes_later() -> None:
    proved = [["a", "b", "c"], ["a", "d", "e"]]
    assert judge(proved, 1).named == ("a",)
    assert judge([*proved, ["x", "y", "z"]], 1).named == ("a",)
    assert judge([*proved, ["x", "y", "z"]], 2) != judge(proved, 2)


def test_suspects_are_dealt_out_evenly_and_groups_stay_of_three_or_more() -> None:
    contract = RoundsConfig(groups=3)
    for round_, count in itertools.product(range(5), range(7)):
        suspects = random.Random(round_).sample(NAMES[:13], count)
        groups = groups_of(contract, 5, round_, NAMES[:13], suspects)
        shares = [len(set(group) & set(suspects)) for group in groups]
        assert max(shares) - min(shares) <= 1
        assert sorted(itertools.chain(*groups)) == NAMES[:13]
        assert min(map(len, groups)) >= 4
    drawn = [groups_of(contract, 5, round_, NAMES[:13]) for round_ in range(6)]
    assert len({str(groups) for groups in drawn}) == 6  # anew each round


def test_a_refusal_is_of_one_run_round_and_list_of_sums() -> None:
    attempts = [Attempt(2, "aa", dict.fromkeys(NAMES[place : place + 3], 1.0)) for place in (0, 3)]
    sums = [GroupSum(attempt, attempt.names, []) for attempt in attempts]
    key = Ed25519PrivateKey.generate()
    made = refusal_of("run", 2, sums, [1])
    told = to_json([made]).replace(
        '"signatures": {}', f'"signatures": {{"s00": "{key.sign(made.message("run")).hex()}", "s01": "zz"}}'
    )
    [found] = from_json(told, where="t")
    keys = {name: key.public_key().public_bytes_raw() for name in NAMES}
    assert found.groups == [("s03", "s04", "s05")]
    assert found.signers("run", keys) == ["s00"]
    assert found.signers("another run", keys) == []
    assert found.signers("run", {}) == []
    fewer = [sums[0], GroupSum(attempts[1], attempts[1].names[:2], [])]
    for other in (
        refusal_of("run", 3, sums, [1]),
        refusal_of("run", 2, sums, [0]),
        refusal_of("run", 2, fewer, [1]),
    ):
        assert other.message("run") != made.message("run")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"round": 1}]', "[[]]", "{}x", '[{"round":1,"sums":[],"places":[],"signatures":{}}]',
             '[{"round":1,"sums":[["a",["b"]]],"places":[1],"signatures":{}}]', "[" * 5000],
)  # fmt: skip
def test_refusals_that_can_not_be_read_are_refused(text: str) -> None:
    with pytest.raises(WireError, match="can't be read"):
        from_json(text, where="t")


@given(
    sites=st.integers(3, 12), size=st.integers(1, 3000), seed=st.integers(0, 2**20), alike=st.booleans(),
    bits=st.sampled_from([(22, 2), (14, 3), (8, 5)]), bound=st.sampled_from([1e-3, 0.3, 8.0, 1e4]),
    scale=st.sampled_from([1e-9, 1e-3, 1.0, 1e6]), rounding=st.sampled_from(["nearest", "stochastic"]),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_the_mean_of_honest_updates_passes_the_checks_whatever_they_are(
    sites: int,
    size: int,
    seed: int,
    alike: bool,
    bits: tuple[int, int],
    bound: float,
    scale: float,
    rounding: str,
) -> None:
    """What makes a refusal proof of a lie."""
    rng = np.random.default_rng(seed)
    rounds = RoundsConfig(
        field_bits=bits[0], fields=bits[1], max_update_norm=bound, rounding=rounding, protection="masked"
    )
    names, layout = NAMES[:sites], Layout.of({"a": (size,)})
    attempt = Attempt(
        1, "aa", {name: float(w) for name, w in zip(names, rng.uniform(1, 30, sites), strict=True)}
    )
    updates = (scale * rng.standard_t(2, (sites, size))).astype(np.float32)
    if alike:
        updates[:] = updates[0]
    survivors = sorted(rng.choice(names, rng.integers(1, sites + 1), replace=False).tolist())
    sent = [
        send(open_steps(Terms(rounds, layout, attempt, name, seed)), Parcel(updates[names.index(name)]))
        for name in survivors
    ]
    total = (np.stack(sent).astype(object).sum(0) % MODULUS).astype(np.uint64)
    mean = open_sum(open_steps(Terms(rounds, layout, attempt)), Parcel(total, survivors=survivors))
    assert np.isfinite(mean).all()

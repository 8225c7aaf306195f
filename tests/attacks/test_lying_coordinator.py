"""A coordinator that lies about a dropout, hands out one upload as the sum, or sums too few: it gets nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clients.secagg.site import SecaggSite
from clients.secagg.sum_order import SumOrder
from common.crypto import shamir
from common.crypto.container import open_container
from common.crypto.fields import MODULUS, Packing, Words
from common.errors import QuorumError, WireError
from common.he.schemes import scheme
from common.secagg import masks
from common.secagg.pipeline import Parcel, Terms, open_steps, send
from common.secagg.protocol import REFUSED, Attempt, GroupSum, upload_facts
from tests.faults.leagues import SITES, make_keys, secagg_sites

SIZE = 400_000
NAMES = SITES[:5]
T = np.uint64(MODULUS)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), NAMES)


def _update(place: int) -> np.ndarray:
    return np.random.default_rng(place).normal(0, 0.1, SIZE).astype(np.float32)


def _words(site: SecaggSite, attempt: Attempt, place: int) -> Words:
    terms = Terms(site._config.rounds, site._trainer.layout(), attempt, site.name)
    words: Words = send(open_steps(terms), Parcel(_update(place)))
    return words


def _parts(site: SecaggSite, attempt: Attempt, place: int) -> list[memoryview]:
    layout = site._trainer.layout()
    facts = upload_facts(site._run, site._config.rounds, layout, attempt, site.name)
    signer = bytes.fromhex(site.offer()["ed25519"])
    return open_container(site.protect(_update(place), attempt), facts, signer, where="attack")


def _correlation(words: Words, update: np.ndarray) -> float:
    shown = words.astype(np.int64)
    shown[shown > MODULUS // 2] -= MODULUS
    low = ((shown + (1 << 21)) & ((1 << 22) - 1)) - (1 << 21)
    return max(
        abs(float(np.corrcoef(guess, update[start::2])[0, 1]))
        for guess, start in ((low, 0), (shown >> 22, 1))
    )


def _revealed(
    sites: list[SecaggSite], attempt: Attempt, survivors: list[str], uploads: dict[str, list[memoryview]]
) -> dict[tuple[str, str], bytes]:
    """Seeds by (site, itself or one that is said to be gone), as the coordinator joins them."""
    asked = {"attempt": attempt.to_json(), "survivors": survivors}
    signatures = {s.name: s.answer("agree", asked)["signature"] for s in sites if s.name in survivors}
    shares, gone = [], [n for n in NAMES if n not in survivors]
    for place, site in enumerate(sites):
        if site.name in survivors:
            wanted = {name: [NAMES.index(each) for each in [name, *gone]] for name in survivors}
            sealed = {
                name: b"".join(masks.slices(bytes(uploads[name][1 + place]), wanted[name])).hex()
                for name in survivors
            }
            order = {**asked, "signatures": signatures, "shares": sealed}
            shares.append((place + 1, site.answer("reveal", order)["shares"]))
    need = masks.threshold_of(len(NAMES), 1)
    return {
        (sender, of): shamir.join({at: bytes.fromhex(told[sender][of]) for at, told in shares[:need]})
        for sender in survivors
        for of in [sender, *gone]
    }


def test_a_coordinator_that_lies_about_a_dropout_gets_nothing(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 5, SIZE, protection="masked")
    attempt = Attempt(1, "aa", dict.fromkeys(NAMES, 1.0))
    uploads = {site.name: _parts(site, attempt, place) for place, site in enumerate(sites)}
    plain = {site.name: _words(site, attempt, place) for place, site in enumerate(sites)}
    sent = {name: np.frombuffer(parts[0], dtype="<u8") for name, parts in uploads.items()}
    # All five sent; the coordinator says that s4 didn't, and learns the pair masks of s4.
    survivors, count = NAMES[:4], len(sent["s4"])
    seeds = _revealed(sites, attempt, survivors, uploads)
    own = [seeds[name, name] for name in survivors]
    left = {pair: seed for pair, seed in seeds.items() if pair[0] != pair[1]}
    total = sum(sent[name].astype(object) for name in survivors)
    opened = (total - masks.leftover_mask(count, own, left).astype(object)) % MODULUS
    truth = sum(plain[name].astype(object) for name in survivors) % MODULUS
    assert (opened == truth).all()  # what was revealed is right
    pair_mask = masks.leftover_mask(count, [], {("s4", name): seeds[name, "s4"] for name in survivors})
    bare = (sent["s4"] + (T - pair_mask)) % T
    assert _correlation(plain["s4"], _update(4)) > 0.99
    assert _correlation(bare, _update(4)) < 0.01  # its own mask stays, whose shares no one gives now:
    asked = {"attempt": attempt.to_json(), "survivors": NAMES}
    for site in sites[:4]:
        with pytest.raises(WireError, match="signed another survivor set"):
            site.answer("agree", asked)
        with pytest.raises(WireError, match="differs from the one"):
            site.answer("reveal", {**asked, "signatures": {}, "shares": {}})
    # Nor can two halves of the league be brought to sign two sets.
    with pytest.raises(QuorumError, match="masks open from"):
        sites[4].answer("agree", {**asked, "survivors": NAMES[2:]})


def test_one_upload_is_no_sum_and_is_noise_to_a_colluding_key_holder(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 5, SIZE, protection="he+masked")
    attempt = Attempt(1, "aa", dict.fromkeys(NAMES, 1.0))
    bfv = scheme("bfv")
    words = Packing().words(SIZE)
    upload = _parts(sites[1], attempt, 1)[: bfv.ciphertexts(words)]
    one = bfv.sum(words)
    one.add(one.parse(upload, where="attack"))
    parts = one.saved()
    seen = sites[3].he_key(1).decrypt(parts, words, where="attack")
    assert _correlation(seen, _update(1)) < 0.01
    for survivors in (NAMES, ["s1"]):
        with pytest.raises(WireError, match=REFUSED):
            sites[0].apply(SumOrder(1, (GroupSum(attempt, survivors, parts),)))


def test_a_sum_of_fewer_than_the_threshold_is_signed_by_no_site(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 5, 100, protection="he+masked")
    attempt = Attempt(1, "aa", dict.fromkeys(NAMES, 1.0))
    for site in sites:
        site.protect(np.zeros(100, dtype=np.float32), attempt)
    for survivors in (["s0", "s1", "s2"], ["s0", "s1"], ["s0"]):
        asked = {"attempt": attempt.to_json(), "survivors": survivors}
        with pytest.raises(QuorumError, match="masks open from"):
            sites[0].answer("agree", asked)


def test_a_sum_of_another_round_or_a_replayed_one_changes_nothing(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 3, 100, protection="he", colluding_sites=0)
    attempt = Attempt(1, "aa", dict.fromkeys(SITES[:3], 1.0))
    bfv, words = scheme("bfv"), Packing().words(100)
    total = bfv.sum(words)
    for site in sites:
        layout = site._trainer.layout()
        facts = upload_facts(site._run, site._config.rounds, layout, attempt, site.name)
        data = site.protect(np.full(100, 0.1, dtype=np.float32), attempt)
        signer = bytes.fromhex(site.offer()["ed25519"])
        total.add(total.parse(open_container(data, facts, signer, where="t"), where="t"))
    order = SumOrder(1, (GroupSum(attempt, SITES[:3], total.saved()),))
    first = sites[0].apply(order)
    assert sites[0].apply(order) == first  # handed out again: nothing moves
    with pytest.raises(WireError, match="not of this round's groups"):
        sites[0].apply(SumOrder(2, order.sums))

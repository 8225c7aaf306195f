"""The coordinator's side of `masked`, `he` and `he+masked`: pass keys on, verify and sum uploads, hand sums out.

Invariants: an upload's signature, facts and lengths are checked before a worker parses a ciphertext, and all of an
upload before any of it enters the one running sum; leftover masks are learned only for a survivor set that enough sites
signed; under `he` a round's encrypted sum lies on the disk before any site gets it, so a killed run hands out the same.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from common import wire
from common.config import RoundsConfig
from common.crypto import masks, shamir
from common.crypto.container import check_signature, open_container
from common.crypto.fields import MODULUS, Words, dequantise
from common.crypto.protocol import Attempt, most_bytes, survivor_message, upload_facts, upload_parts
from common.errors import QuorumError, WireError
from common.run_folder import read_json, write_json, write_whole
from server.exchange import exchange
from server.league import League, Roster, require_quorum
from server.protection import Protection
from server.screen import Expected, screen
from server.sum_worker import SumWorker

_MOST_ANSWER = 1 << 24
Bundles = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Upload:
    """A verified upload: masked words, or nothing where the worker holds its ciphertexts, and the shares it brought."""

    site: str
    body: Any
    shares: list[memoryview]
    nbytes: int


def new_attempt(round_: int, cohort: Sequence[str], weights: Mapping[str, float]) -> Attempt:
    """A try at a round that no masks were used for yet."""
    return Attempt(round_, os.urandom(16).hex(), {name: weights[name] for name in cohort})


class SealedSum(Protection[Upload]):
    """One attempt's running sum, of words or of ciphertexts."""

    name = "sealed"

    def __init__(
        self, rounds: RoundsConfig, layout: wire.Layout, attempt: Attempt, run: str, bundles: Bundles,
        worker: SumWorker,
    ) -> None:  # fmt: skip
        self._rounds, self._layout, self.attempt = rounds, layout, attempt
        self._run, self.bundles = run, bundles
        self.count = attempt.packing(rounds).words(layout.size)
        self._encrypted = worker if "he" in rounds.protection else None
        if self._encrypted:
            self._encrypted.start(self.count)
        self._words = np.zeros(0 if self._encrypted else self.count, dtype=np.uint64)
        self.shares: dict[str, list[memoryview]] = {}

    def check(self, content: RecordDict, *, site: str, where: str) -> Upload:
        most = most_bytes(self._rounds, self.count, len(self.attempt.names))
        data = wire.decode_blob(content, most, where=where)
        facts = upload_facts(self._run, self._rounds, self._layout, self.attempt, site)
        parts = open_container(data, facts, bytes.fromhex(self.bundles[site]["ed25519"]), where=where)
        main = upload_parts(self._rounds, self.count)
        sealed = len(self.attempt.names) if "masked" in self._rounds.protection else 0
        if len(parts) != main + sealed:
            raise WireError("the container has another number of parts", where=where)
        if self._encrypted:
            self._encrypted.parse(parts[:main], where=where)
            return Upload(site, None, parts[main:], len(data))
        if len(parts[0]) != 8 * self.count:
            raise WireError("the masked words have another length", where=where)
        words = np.frombuffer(parts[0], dtype="<u8")
        if words.size and int(words.max()) >= MODULUS:
            raise WireError("a masked word is out of range", where=where)
        return Upload(site, words, parts[main:], len(data))

    def fold(self, place: int, payload: Upload, weight: float) -> None:
        if self._encrypted:
            self._encrypted.fold()
        else:
            self._words = (self._words + payload.body) % np.uint64(MODULUS)
        self.shares[payload.site] = payload.shares

    def skip(self, place: int) -> None:
        """Sums modulo t don't depend on an order, so no place waits."""

    def remove(self, words: Words) -> None:
        """Take leftover masks out of the sum."""
        if self._encrypted:
            self._encrypted.subtract(words)
        else:
            self._words = (self._words + (np.uint64(MODULUS) - words)) % np.uint64(MODULUS)

    def open(self) -> wire.FloatVector:
        """The mean, where only masks hid it."""
        total = self.attempt.packing(self._rounds).unpack(self._words, self._layout.size)
        return dequantise(total, self.attempt.share(self.shares), self.attempt.scale(self._rounds))

    def saved(self) -> list[bytes]:
        """The encrypted sum."""
        return self._encrypted.saved() if self._encrypted else []


def exchange_keys(grid: Grid, league: League, roster: Roster, names: Sequence[str]) -> Bundles:
    """Collect the members' public keys, let the steward wrap the league's key, and hand both to all.

    Raises
    ------
    QuorumError : a member gave no keys, or refused those of the others.
    """
    path = league.folder.state / "keys.json"
    if path.exists():
        kept = read_json(path)
    else:
        bundles = _all(
            league, names, ask(grid, league, roster, "offer", {name: {} for name in names}), "keys"
        )
        wrapped = None
        if "he" in league.config.rounds.protection:
            steward = min(names)
            wrapped = _all(
                league, [steward], ask(grid, league, roster, "wrap", {steward: {"bundles": bundles}}), "keys"
            )[steward]
        kept = {"bundles": bundles, "wrapped": wrapped}
        write_json(path, kept)
    present = roster.present(names)
    installed = ask(grid, league, roster, "install", dict.fromkeys(present, kept))
    require_quorum(
        league,
        list(names),
        [n for n in present if isinstance(installed[n], dict)],
        "keys",
        _faults(installed),
    )
    return dict(kept["bundles"])


def settle(grid: Grid, league: League, roster: Roster, total: SealedSum) -> None:
    """Agree on the survivors, learn the seeds of masks that didn't cancel, and take those masks out.

    Raises
    ------
    QuorumError : too few survivors, or too few of them signed or revealed.
    """
    rounds, attempt = league.config.rounds, total.attempt
    survivors = [name for name in attempt.names if name in total.shares]
    where = f"round {attempt.round}"
    masks.require_survivors(len(survivors), len(attempt.names), rounds.colluding_sites, where)
    if "masked" not in rounds.protection:
        return
    need = masks.threshold_of(len(attempt.names), rounds.colluding_sites)
    asked: dict[str, Any] = {"attempt": attempt.to_json(), "survivors": survivors}
    signed = ask(grid, league, roster, "agree", dict.fromkeys(survivors, asked))
    signatures: dict[str, str] = {}
    message = survivor_message(attempt.label(league.run), survivors)
    for name, answer in signed.items():
        try:
            signature = str(answer["signature"])
            signer = bytes.fromhex(total.bundles[name]["ed25519"])
            check_signature(signer, message, bytes.fromhex(signature), where=where)
            signatures[name] = signature
        except (WireError, KeyError, TypeError, ValueError):
            continue
    if len(signatures) < need:
        raise QuorumError(
            f"{len(signatures)} sites signed the survivor set, not {need}",
            where=where,
            why=str(_faults(signed)),
        )
    places = {name: place for place, name in enumerate(attempt.names)}
    orders = {
        name: {
            **asked,
            "signatures": signatures,
            "shares": {sender: total.shares[sender][places[name]].hex() for sender in survivors},
        }
        for name in signatures
    }
    revealed = ask(grid, league, roster, "reveal", orders)
    total.remove(_leftover(attempt, survivors, revealed, need, total.count, where))


def _leftover(
    attempt: Attempt, survivors: list[str], revealed: Mapping[str, Any], need: int, count: int, where: str
) -> Words:
    gone = [name for name in attempt.names if name not in survivors]
    seeds: dict[tuple[str, str], bytes] = {}
    for sender in survivors:
        for of in [sender, *gone]:
            shares: dict[int, bytes] = {}
            for place, holder in enumerate(attempt.names, 1):
                try:
                    share = bytes.fromhex(revealed[holder]["shares"][sender][of])
                except (KeyError, TypeError, ValueError):
                    continue
                if len(share) == masks.SEED_BYTES:
                    shares[place] = share
            if len(shares) < need:
                raise QuorumError(f"{len(shares)} shares of site '{sender}' came, not {need}", where=where)
            seeds[sender, of] = shamir.join(dict(list(shares.items())[:need]))
    own = [seeds[name, name] for name in survivors]
    return masks.leftover_mask(count, own, {pair: seed for pair, seed in seeds.items() if pair[0] != pair[1]})


def keep_sum(league: League, total: SealedSum, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a round's encrypted sum, and what came of the round, before any site gets it."""
    parts, round_ = total.saved(), total.attempt.round
    survivors = [name for name in total.attempt.names if name in total.shares]
    kept = {
        **facts, "attempt": total.attempt.to_json(), "survivors": survivors, "lengths": [len(part) for part in parts],
    }  # fmt: skip
    write_whole(league.folder.state / f"sum-{round_:04d}.bin", b"".join(parts))
    write_json(league.folder.state / f"sum-{round_:04d}.json", kept)
    return kept


def kept_sum(league: League, round_: int) -> dict[str, Any] | None:
    """The facts of a sum that lies on the disk."""
    path = league.folder.state / f"sum-{round_:04d}.json"
    return dict(read_json(path)) if path.exists() else None


def hand_out(
    grid: Grid, league: League, roster: Roster, names: Sequence[str], round_: int, best: int | None
) -> tuple[dict[str, str], int]:
    """Send a round's sum to all sites, with the earlier ones to those that were away; compare what they hold then.

    Returns
    -------
    Sites that are apart from most, with the reason; and the bytes sent.

    Raises
    ------
    QuorumError : too few sites hold the same model.
    """
    present = roster.present(names)
    answers, sent = _send_sum(grid, league, roster, present, round_, best)
    behind = {n: int(a["round"]) for n, a in answers.items() if isinstance(a, dict) and not a["digest"]}
    for name, done in behind.items():
        for missed in range(done + 1, round_ + 1):
            again, more = _send_sum(grid, league, roster, [name], missed, best)
            answers[name], sent = again[name], sent + more
    digests = {n: str(a["digest"]) for n, a in answers.items() if isinstance(a, dict)}
    most = Counter(digests.values()).most_common(1)
    good = [name for name in present if most and digests.get(name) == most[0][0]]
    reasons = _faults(answers) | {n: "holds another model than most" for n in digests if n not in good}
    require_quorum(league, list(names), good, f"handing out round {round_}", reasons)
    return reasons, sent


def release_vector(
    grid: Grid, league: League, roster: Roster, layout: wire.Layout, names: Sequence[str], round_: int
) -> wire.FloatVector:
    """The model to release, from the steward or, where it is away, from the next member.

    Raises
    ------
    QuorumError : no member gave it.
    """
    reasons: dict[str, str] = {}
    for name in sorted(roster.present(names)):
        header = wire.Header(league.run, round_, layout=layout.digest, plan={"step": "release"})
        for _, reply in exchange(
            grid, {name: (roster.nodes[name], wire.pack(header))}, wire.SECURE, group="release",
            deadline_s=league.config.rounds.deadline_s,
        ):  # fmt: skip
            try:
                if reply is None:
                    raise WireError("no reply before the deadline", where=name)
                _, content = screen(reply, Expected(name, league.run, round_))
                vector = wire.decode_floats(content, layout.size, where=wire.place(name, round_))
                wire.check_finite(vector, where=wire.place(name, round_))
                return vector.copy()
            except WireError as fault:
                reasons[name] = fault.what
    raise QuorumError("no site gave the model to release", where="release", why=str(reasons))


def ask(
    grid: Grid, league: League, roster: Roster, step: str, orders: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Ask sites one step of the protocol; each answer is a dict, or the reason as text where there is none."""
    header = wire.Header(league.run, plan={"step": step})
    requests = {
        name: (
            roster.nodes[name],
            wire.pack(header, vector=np.frombuffer(json.dumps(dict(order)).encode(), np.uint8)),
        )
        for name, order in orders.items()
        if name in roster.nodes
    }
    return _replies(grid, league, requests, step, dict.fromkeys(orders, "not connected"))


def _send_sum(
    grid: Grid, league: League, roster: Roster, names: Sequence[str], round_: int, best: int | None
) -> tuple[dict[str, Any], int]:
    kept = kept_sum(league, round_)
    if kept is None:
        raise QuorumError(f"the sum of round {round_} is lost", where="state")
    data = np.frombuffer((league.folder.state / f"sum-{round_:04d}.bin").read_bytes(), np.uint8)
    plan: dict[str, str | int | float | bool] = {
        "step": "apply", "attempt": kept["attempt"], "survivors": json.dumps(kept["survivors"]),
        "lengths": json.dumps(kept["lengths"]), "best": -1 if best is None else best,
    }  # fmt: skip
    order = wire.pack(wire.Header(league.run, plan=plan), vector=data)
    requests = {name: (roster.nodes[name], order) for name in names}
    return _replies(grid, league, requests, "apply", {}), data.nbytes * len(requests)


def _replies(
    grid: Grid,
    league: League,
    requests: Mapping[str, tuple[int, RecordDict]],
    step: str,
    found: dict[str, Any],
) -> dict[str, Any]:
    for name, reply in exchange(
        grid, requests, wire.SECURE, group=step, deadline_s=league.config.rounds.deadline_s
    ):
        try:
            if reply is None:
                raise WireError("no reply before the deadline", where=name)
            _, content = screen(reply, Expected(name, league.run))
            answer = json.loads(wire.decode_blob(content, _MOST_ANSWER, where=name))
            found[name] = answer if isinstance(answer, dict) else "the answer is no table"
        except WireError as fault:
            found[name] = fault.what
        except (ValueError, RecursionError):
            found[name] = "the answer can't be read"
    return found


def _all(league: League, names: Sequence[str], answers: dict[str, Any], where: str) -> dict[str, Any]:
    reasons = _faults(answers)
    if reasons:
        raise QuorumError(f"{len(reasons)} members gave no keys", where=where, why=str(reasons))
    return {name: answers[name] for name in names}


def _faults(answers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(answer) for name, answer in answers.items() if not isinstance(answer, dict)}

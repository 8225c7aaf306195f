"""Uploads that the coordinator can't read: verified, summed, and freed of the masks that didn't cancel.

Invariants: an upload's signature, facts and lengths are checked before a worker parses a ciphertext, and all of an
upload before any of it enters its group's one running sum; leftover masks are learned only for a survivor set that
enough sites signed.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import RecordDict

from common.crypto import shamir
from common.crypto.container import check_signature, open_container
from common.crypto.fields import MODULUS, Words
from common.errors import QuorumError, WireError
from common.he.cipher import Buffer
from common.protocol import wire
from common.secagg import masks
from common.secagg.pipeline import Parcel, Terms, open_steps, open_sum
from common.secagg.protocol import (
    Attempt,
    most_bytes,
    survivor_message,
    upload_facts,
    upload_parts,
    values_of,
)
from common.settings.config import RoundsConfig
from server.aggregation.plain import Protection
from server.run.run import Run
from server.secagg.ask import ask, faults
from server.secagg.keys import Bundles
from server.secagg.sum_worker import SumWorker

Places = list[tuple[int, int]]


@dataclass(frozen=True)
class Upload:
    """A verified upload: masked words, or nothing where the worker holds its ciphertexts, and the shares it brought."""

    site: str
    body: Any
    shares: list[memoryview]
    nbytes: int


class Shelf:
    """Shares between upload and reveal: on the disk, so that the coordinator's memory doesn't grow with the sites.

    The file has no name and goes with the sum that it belongs to.
    """

    def __init__(self) -> None:
        file = tempfile.TemporaryFile(prefix="hansa-shares-")  # noqa: SIM115 - closed with the shelf
        weakref.finalize(self, file.close)
        self._fd, self._end = file.fileno(), 0

    def put(self, parts: Sequence[Buffer]) -> Places:
        """Put parts away; where each lies."""
        places = []
        for part in parts:
            os.pwrite(self._fd, part, self._end)
            places.append((self._end, len(part)))
            self._end += len(part)
        return places

    def get(self, place: tuple[int, int]) -> bytes:
        """One part."""
        return os.pread(self._fd, place[1], place[0])


@dataclass(frozen=True)
class SumTerms:
    """What all sums of a round have in common.

    Parameters
    ----------
    run : the digest of the league's settings, which each upload states.
    bundles : the members' public keys.
    """

    rounds: RoundsConfig
    layout: wire.Layout
    run: str
    bundles: Bundles


class SecureSum(Protection[Upload]):
    """One attempt's running sum, of masked words or of ciphertexts."""

    name = "secure"

    def __init__(self, terms: SumTerms, attempt: Attempt, worker: SumWorker) -> None:
        self._rounds, self._layout, self.attempt = terms.rounds, terms.layout, attempt
        self._run, self.bundles = terms.run, terms.bundles
        rounds = terms.rounds
        self.count = values_of(rounds, terms.layout.size)
        self._encrypted = worker if rounds.encrypted else None
        if self._encrypted:
            self._encrypted.start(self.count)
        self._words = np.zeros(0 if self._encrypted else self.count, dtype=np.uint64)
        self._shelf, self.shares = Shelf(), dict[str, Places]()

    def check(self, content: RecordDict, *, site: str, where: str) -> Upload:
        most = most_bytes(self._rounds, self.count, len(self.attempt.names))
        data = wire.decode_blob(content, most, where=where)
        facts = upload_facts(self._run, self._rounds, self._layout, self.attempt, site)
        parts = open_container(data, facts, bytes.fromhex(self.bundles[site]["ed25519"]), where=where)
        main = upload_parts(self._rounds, self.count)
        share_parts = len(self.attempt.names) if self._rounds.masked else 0
        if len(parts) != main + share_parts:
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
        # Put away: views would keep each whole upload in memory.
        self.shares[payload.site] = self._shelf.put(payload.shares)

    def share(self, sender: str, place: int, of: Sequence[str]) -> bytes:
        """The encrypted shares of some of a sender's seeds for the site at a place of the cohort."""
        names = self.attempt.names
        whole = self._shelf.get(self.shares[sender][place])
        return b"".join(masks.slices(whole, (names.index(name) for name in of)))

    def skip(self, place: int) -> None:
        """Sums modulo t don't depend on an order, so no place waits."""

    def remove(self, words: Words) -> None:
        """Take leftover masks out of the sum."""
        if self._encrypted:
            self._encrypted.subtract(words)
        else:
            self._words = (self._words + (np.uint64(MODULUS) - words)) % np.uint64(MODULUS)

    def open(self) -> wire.FloatVector:
        """The mean, where only masks hid it.

        Raises
        ------
        WireError : the sum fails a check.
        """
        terms = Terms(self._rounds, self._layout, self.attempt, where=self.where)
        return open_sum(open_steps(terms), Parcel(self._words, survivors=self.survivors))

    def saved(self) -> list[bytes]:
        """The encrypted sum."""
        return self._encrypted.saved() if self._encrypted else []

    @property
    def survivors(self) -> list[str]:
        """Sites whose uploads are in the sum, in site order."""
        return [name for name in self.attempt.names if name in self.shares]

    @property
    def missing(self) -> list[str]:
        """Sites of the attempt whose uploads aren't in the sum, in site order."""
        return [name for name in self.attempt.names if name not in self.shares]

    @property
    def where(self) -> str:
        """How errors name the sum's round."""
        return f"round {self.attempt.round}"


class GroupedSum(Protection[Upload]):
    """The running sums of a round's groups; each upload enters the one of its site's group."""

    name = "grouped"

    def __init__(self, sums: Sequence[SecureSum]) -> None:
        self.sums = sums
        self._of = {name: total for total in sums for name in total.attempt.names}

    def check(self, content: RecordDict, *, site: str, where: str) -> Upload:
        return self._of[site].check(content, site=site, where=where)

    def fold(self, place: int, payload: Upload, weight: float) -> None:
        self._of[payload.site].fold(place, payload, weight)

    def skip(self, place: int) -> None:
        """Sums modulo t don't depend on an order, so no place waits."""

    def open(self) -> wire.FloatVector:
        """The mean of the only group, where only masks hid it."""
        return self.sums[0].open()

    def attempts(self) -> dict[str, str]:
        """What each site is told of its group's attempt."""
        texts = [(total, total.attempt.to_json()) for total in self.sums]
        return {name: text for total, text in texts for name in total.attempt.names}


def settle(run: Run, total: SecureSum) -> None:
    """Agree on the survivors, learn the seeds of masks that didn't cancel, and take those masks out.

    Raises
    ------
    QuorumError : too few survivors, or too few of them signed or revealed.
    """
    names, colluding = total.attempt.names, run.rounds.colluding_sites
    masks.require_survivors(len(total.survivors), len(names), colluding, total.where)
    if not run.rounds.masked:
        return
    need = masks.threshold_of(len(names), colluding)
    order = {"attempt": total.attempt.to_json(), "survivors": total.survivors}
    signatures = _agree(run, total, order, need)
    reveal = {
        name: {**order, "signatures": signatures, "shares": _shares_for(total, name)} for name in signatures
    }
    revealed = ask(run, "reveal", reveal, run.left_s("reveal"))
    total.remove(_leftover(total, revealed, need))


def _agree(run: Run, total: SecureSum, order: Mapping[str, Any], need: int) -> dict[str, str]:
    """Each survivor's valid signature of the survivor set."""
    answers = ask(run, "agree", dict.fromkeys(total.survivors, order), run.left_s("agree"))
    message = survivor_message(total.attempt.label(run.league.run), total.survivors)
    signatures: dict[str, str] = {}
    for name, answer in answers.items():
        try:
            signature = str(answer["signature"])
            signer = bytes.fromhex(total.bundles[name]["ed25519"])
            check_signature(signer, message, bytes.fromhex(signature), where=total.where)
            signatures[name] = signature
        except (WireError, KeyError, TypeError, ValueError):
            continue
    if len(signatures) < need:
        raise QuorumError(
            f"{len(signatures)} sites signed the survivor set, not {need}",
            where=total.where, why=str(faults(answers)),
        )  # fmt: skip
    return signatures


def _shares_for(total: SecureSum, holder: str) -> dict[str, str]:
    """By sender, what a holder has to reveal; all shares of all would grow with the third power of the sites."""
    place = total.attempt.names.index(holder)
    return {sender: total.share(sender, place, [sender, *total.missing]).hex() for sender in total.survivors}


def _leftover(total: SecureSum, revealed: Mapping[str, Any], need: int) -> Words:
    """The masks that didn't cancel, from the seeds that enough sites revealed shares of."""
    seeds: dict[tuple[str, str], bytes] = {}
    for sender in total.survivors:
        for of in [sender, *total.missing]:
            shares: dict[int, bytes] = {}
            for place, holder in enumerate(total.attempt.names, 1):
                try:
                    share = bytes.fromhex(revealed[holder]["shares"][sender][of])
                except (KeyError, TypeError, ValueError):
                    continue
                if len(share) == masks.SEED_BYTES:
                    shares[place] = share
            if len(shares) < need:
                raise QuorumError(
                    f"{len(shares)} shares of site '{sender}' came, not {need}", where=total.where
                )
            seeds[sender, of] = shamir.join(dict(list(shares.items())[:need]))
    own = [seeds[name, name] for name in total.survivors]
    pairs = {pair: seed for pair, seed in seeds.items() if pair[0] != pair[1]}
    return masks.leftover_mask(total.count, own, pairs)

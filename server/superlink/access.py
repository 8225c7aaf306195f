"""Who may ask the coordinator's SuperLink for what: every request of a site is held against the contract.

Flower checks that a request's node key has signed a time stamp, and no more: a node may write an instruction to another
site in the coordinator's name, answer in another's name, or take and delete messages that it knows by their digest.

Invariants: a request counts only with a certificate of the contract and the node key that the contract pairs with it;
each signature counts once; one process speaks for a site; a site reads, answers and confirms what was addressed to it,
and writes nothing else.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import functools
import hashlib
import ssl
import threading
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from google.protobuf.message import Message as Proto

from common.errors import HansaError
from common.flower import fleet
from common.provision.contract import FILE, Contract, read_signed
from common.provision.door import CERTIFICATE, CLOCK_S, EDITION, INSTANCE, Refusal

LEASE_S = 30.0
_KEEP_S = 700.0  # a signature is worth nothing to Flower after 310 s
_MOST_KEPT = 100_000
_MOST_IDS = 4096


@dataclass
class Guest:
    """What is remembered of one site: who speaks for it, and which messages and objects are its own."""

    instance: str = ""
    heard: float = -1e9
    messages: OrderedDict[str, None] = field(default_factory=OrderedDict)
    readable: OrderedDict[str, None] = field(default_factory=OrderedDict)
    writable: OrderedDict[str, None] = field(default_factory=OrderedDict)


@dataclass(frozen=True)
class _Book:
    """The contract by certificates."""

    contract: Contract
    names: Mapping[str, str]
    node_keys: Mapping[str, bytes]


class Door:
    """Holds requests against the contract of a kit, which is read anew when it changes, and counts if it's signed.

    Parameters
    ----------
    wall : seconds since 1970; `since` : seconds that never jump.
    """

    def __init__(
        self,
        kit: Path,
        wall: Callable[[], float] = time.time,
        since: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kit, self._wall, self._since = kit, wall, since
        self._guests: dict[str, Guest] = {}
        self._used: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()
        self._stamp, self._book = (0, 0), _read(kit)
        self._now_book()

    def admit(self, headers: Mapping[str, str]) -> str:
        """The site that a request comes from.

        Raises
        ------
        Refusal : its certificate, key, clock, edition or process isn't the contract's.
        """
        book, now = self._now_book(), self._wall()
        fingerprint, ends = _certificate(headers.get(CERTIFICATE, ""))
        if fingerprint not in book.names:
            raise Refusal("certificate_unknown")
        if now > ends:
            raise Refusal("certificate_expired")
        name, contract = book.names[fingerprint], book.contract
        if contract.until and dt.datetime.fromtimestamp(now, dt.UTC).date().isoformat() > contract.until:
            raise Refusal("contract_over", contract.until)
        held = headers.get(EDITION, "")
        if held.isdecimal() and int(held) < contract.least_edition:
            raise Refusal(
                "old_contract", f"edition {int(held)}, and at least {contract.least_edition} is needed"
            )
        self._require_node(headers, book.node_keys[name], now)
        with self._lock:
            self._require_alone(name, headers.get(INSTANCE, ""))
        return name

    def check(self, name: str, request: Proto) -> None:
        """Refuse a request for anything that isn't this site's own.

        Raises
        ------
        Refusal : it's another's.
        """
        with self._lock:
            guest = self._guests[name]
            if isinstance(request, fleet.PushMessagesRequest):
                _check_push(guest, request)
                for tree in request.message_object_trees:
                    _remember(guest.writable, _ids(tree))
            elif isinstance(request, fleet.PullObjectRequest):
                _require(request.object_id in guest.readable)
            elif isinstance(request, fleet.ConfirmMessageReceivedRequest):
                _require(request.message_object_id in guest.messages)
            elif isinstance(request, fleet.PushObjectRequest):
                _require(request.object_id in guest.writable)
            elif isinstance(request, fleet.DeactivateNodeRequest):
                guest.heard = -1e9  # whoever says goodbye leaves the place free

    def learn(self, name: str, response: object) -> None:
        """Remember which messages and objects a site was told of."""
        if isinstance(response, fleet.PullMessagesResponse):
            with self._lock:
                guest = self._guests[name]
                _remember(guest.messages, [message.metadata.message_id for message in response.messages_list])
                for tree in response.message_object_trees:
                    _remember(guest.readable, _ids(tree))

    def _now_book(self) -> _Book:
        file_stat = (self._kit / FILE).stat()
        stamp = (file_stat.st_mtime_ns, file_stat.st_ino)
        if stamp != self._stamp:
            try:
                self._book, self._stamp = _read(self._kit), stamp
            except HansaError:
                return self._book  # half-copied or not signed: the last good one holds
        return self._book

    def _require_node(self, headers: Mapping[str, str], key: bytes, now: float) -> None:
        try:
            shown = base64.b64decode(headers[fleet.PUBLIC_KEY_HEADER], validate=True)
            signed_at = dt.datetime.fromisoformat(headers[fleet.TIMESTAMP_HEADER]).timestamp()
            signature = headers[fleet.SIGNATURE_HEADER]
        except (KeyError, ValueError, binascii.Error):
            raise Refusal("node_key") from None
        if shown != key:
            raise Refusal("node_key")
        ahead = signed_at - now
        if abs(ahead) > CLOCK_S:
            raise Refusal("clock", f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}")
        with self._lock:
            if signature in self._used:
                raise Refusal("replayed")
            self._used[signature] = now
            while self._used and (
                len(self._used) > _MOST_KEPT or next(iter(self._used.values())) < now - _KEEP_S
            ):
                self._used.popitem(last=False)

    def _require_alone(self, name: str, instance: str) -> None:
        guest, now = self._guests.setdefault(name, Guest()), self._since()
        if guest.instance != instance and now - guest.heard < LEASE_S:
            raise Refusal("duplicate")
        guest.instance, guest.heard = instance, now


def _check_push(guest: Guest, request: fleet.PushMessagesRequest) -> None:
    _require(len(request.messages_list) == 1 and len(request.message_object_trees) == 1)
    facts = request.messages_list[0].metadata
    _require(facts.reply_to_message_id in guest.messages)
    _require(facts.src_node_id == request.node.node_id and facts.dst_node_id == fleet.SUPERLINK_NODE_ID)


def _require(own: bool) -> None:
    if not own:
        raise Refusal("not_yours")


def _remember(ids: OrderedDict[str, None], names: list[str]) -> None:
    for name in names:
        ids[name] = None
        ids.move_to_end(name)
    while len(ids) > _MOST_IDS:
        ids.popitem(last=False)


def _ids(tree: fleet.ObjectTree) -> list[str]:
    ids: list[str] = []
    open_ = [tree]
    while open_ and len(ids) < _MOST_IDS:
        node = open_.pop()
        ids.append(node.object_id)
        open_.extend(node.children)
    return ids


def _read(kit: Path) -> _Book:
    contract = read_signed(kit)
    keys = {member.name: fleet.node_key_bytes(member.node_key) for member in contract.members}
    names = {
        shown: member.name
        for member in contract.members
        for shown in (member.certificate, member.former)
        if shown
    }
    return _Book(contract, names, keys)


@functools.lru_cache(maxsize=1024)
def _certificate(escaped: str) -> tuple[str, float]:
    """Digest and end of a certificate as a proxy hands it on: PEM, escaped as in an address."""
    if not escaped:
        raise Refusal("certificate_missing")
    try:
        der = ssl.PEM_cert_to_DER_cert(urllib.parse.unquote(escaped))
        ends = x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except ValueError:
        raise Refusal("certificate_unknown") from None
    return hashlib.sha256(der).hexdigest(), ends

"""Who may ask the SuperLink for what, decision by decision; the same over real processes is in `tests/deployment`."""

from __future__ import annotations

import base64
import datetime as dt
import os
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto import fleet_pb2, message_pb2, node_pb2
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from common.provision.authority import Authority, fingerprint, node_key
from common.provision.contract import FILE, SIGNATURE, Contract, Member
from common.provision.door import CERTIFICATE, EDITION, INSTANCE, Refusal
from common.settings.load import load_config
from server.superlink.access import LEASE_S, Door

START = dt.datetime(2027, 1, 1, tzinfo=dt.UTC).timestamp()


def _party(authority: Authority, name: str) -> SimpleNamespace:
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA384())
    shown = authority.issue_client(name, asked.public_bytes(serialization.Encoding.PEM))
    public = node_key()[1]
    loaded = serialization.load_ssh_public_key(public)
    assert isinstance(loaded, ec.EllipticCurvePublicKey)
    member = Member(name, public.decode().strip(), fingerprint(shown), "", "", "")
    return SimpleNamespace(member=member, shown=shown, node=public_key_to_bytes(loaded))


def _write(kit: Path, contract: Contract, authority: Authority) -> None:
    contract.write(kit / FILE)
    (kit / SIGNATURE).write_text(authority.sign((kit / FILE).read_bytes()).hex())


@pytest.fixture
def place(tmp_path: Path) -> SimpleNamespace:
    """A door, its contract's file, its two clocks, and two sites."""
    authority = Authority.create("north")
    sites = {name: _party(authority, name) for name in ("a", "b")}
    now = SimpleNamespace(wall=dt.datetime.now(dt.UTC).timestamp(), since=1000.0)
    contract = Contract(load_config({}), "c0de", tuple(s.member for s in sites.values()), "n", 5, 4, "")
    (tmp_path / "ca.crt").write_bytes(authority.pem())
    _write(tmp_path, contract, authority)
    door = Door(tmp_path, lambda: now.wall, lambda: now.since)
    return SimpleNamespace(door=door, kit=tmp_path, contract=contract, now=now, sites=sites, other=authority)


def _headers(place: SimpleNamespace, name: str, **changes: str) -> dict[str, str]:
    site = place.sites[name]
    told = {
        CERTIFICATE: urllib.parse.quote(site.shown.decode()), INSTANCE: "one", EDITION: "5",
        "flwr-public-key": base64.b64encode(site.node).decode(),
        "flwr-timestamp": dt.datetime.fromtimestamp(place.now.wall, dt.UTC).isoformat(),
        "flwr-signature": base64.b64encode(os.urandom(32)).decode(),
    }  # fmt: skip
    return {**told, **{key.replace("_", "-"): value for key, value in changes.items()}}


def _refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    assert caught.value.what
    assert caught.value.next_step
    return caught.value.code


def test_a_site_with_its_own_keys_is_let_in(place: SimpleNamespace) -> None:
    assert place.door.admit(_headers(place, "a")) == "a"
    assert place.door.admit(_headers(place, "b", x_hansa_edition="4")) == "b"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"x_hansa_certificate": ""}, "certificate_missing"),
        ({"x_hansa_certificate": "%2D%2Dnonsense"}, "certificate_unknown"),
        ({"flwr_public_key": ""}, "node_key"),
        ({"flwr_public_key": "!!!"}, "node_key"),
        ({"flwr_timestamp": "yesterday"}, "node_key"),
        ({"x_hansa_edition": "3"}, "old_contract"),
        ({"flwr_timestamp": "2020-01-01T00:00:00+00:00"}, "clock"),
        ({"flwr_timestamp": "2099-01-01T00:00:00+00:00"}, "clock"),
    ],
)
def test_what_is_wrong_is_named(place: SimpleNamespace, changes: dict[str, str], code: str) -> None:
    assert _refused(lambda: place.door.admit(_headers(place, "a", **changes))) == code


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_ten_minutes_off_is_told_by_how_much(place: SimpleNamespace, minutes: int) -> None:
    signed = dt.datetime.fromtimestamp(place.now.wall + 60 * minutes, dt.UTC).isoformat()
    with pytest.raises(Refusal, match=f"600 s {'ahead' if minutes > 0 else 'behind'}"):
        place.door.admit(_headers(place, "a", flwr_timestamp=signed))


def test_one_stolen_key_is_not_enough(place: SimpleNamespace) -> None:
    mixed = _headers(place, "a") | {"flwr-public-key": _headers(place, "b")["flwr-public-key"]}
    assert _refused(lambda: place.door.admit(mixed)) == "node_key"


def test_a_certificate_that_ran_out_or_was_never_listed(place: SimpleNamespace) -> None:
    stranger = _party(place.other, "a")
    shown = urllib.parse.quote(stranger.shown.decode())
    assert (
        _refused(lambda: place.door.admit(_headers(place, "a", x_hansa_certificate=shown)))
        == "certificate_unknown"
    )
    place.now.wall += 400 * 86400
    assert _refused(lambda: place.door.admit(_headers(place, "a"))) == "certificate_expired"


def test_a_signature_counts_once(place: SimpleNamespace) -> None:
    once = _headers(place, "a")
    place.door.admit(once)
    assert _refused(lambda: place.door.admit(once)) == "replayed"
    assert (
        _refused(lambda: place.door.admit({**once, "flwr-timestamp": once["flwr-timestamp"]})) == "replayed"
    )


def test_one_process_speaks_for_a_site(place: SimpleNamespace) -> None:
    place.door.admit(_headers(place, "a"))
    twin = {"x_hansa_instance": "two"}
    assert _refused(lambda: place.door.admit(_headers(place, "a", **twin))) == "duplicate"
    place.door.admit(_headers(place, "b", **twin))  # another site's affair
    place.now.since += LEASE_S + 1
    place.door.admit(_headers(place, "a", **twin))
    assert _refused(lambda: place.door.admit(_headers(place, "a"))) == "duplicate"
    place.door.check("a", fleet_pb2.DeactivateNodeRequest(node_id=1))
    place.door.admit(_headers(place, "a"))


def test_a_new_contract_counts_at_once_and_a_torn_one_not_at_all(place: SimpleNamespace) -> None:
    place.door.admit(_headers(place, "b"))
    _write(place.kit, replace(place.contract, members=place.contract.members[:1], edition=6), place.other)
    assert _refused(lambda: place.door.admit(_headers(place, "b"))) == "certificate_unknown"
    (place.kit / FILE).write_text("{")
    assert place.door.admit(_headers(place, "a")) == "a"
    _write(place.kit, replace(place.contract, until="2020-01-01"), place.other)
    assert _refused(lambda: place.door.admit(_headers(place, "a"))) == "contract_over"


def test_an_edited_contract_lets_nobody_in(place: SimpleNamespace) -> None:
    stranger = _party(Authority.create("north"), "c")
    replace(place.contract, members=(*place.contract.members, stranger.member)).write(place.kit / FILE)
    place.sites["c"] = stranger
    assert _refused(lambda: place.door.admit(_headers(place, "c"))) == "certificate_unknown"
    assert place.door.admit(_headers(place, "a")) == "a"


def test_a_renewed_site_may_show_its_former_certificate(place: SimpleNamespace) -> None:
    fresh = _party(place.other, "a")
    before = place.sites["a"].member
    renewed = replace(before, certificate=fingerprint(fresh.shown), former=before.certificate)
    _write(place.kit, replace(place.contract, members=(renewed, place.sites["b"].member)), place.other)
    place.door.admit(_headers(place, "a"))
    place.door.admit(_headers(place, "a", x_hansa_certificate=urllib.parse.quote(fresh.shown.decode())))


def _told(place: SimpleNamespace, name: str, message: str, objects: tuple[str, ...]) -> None:
    given = fleet_pb2.PullMessagesResponse()
    given.messages_list.add().metadata.message_id = message
    tree = given.message_object_trees.add()
    tree.object_id = message
    for each in objects:
        tree.children.add().object_id = each
    place.door.learn(name, given)


def _push(
    reply_to: str, source: int, target: int = SUPERLINK_NODE_ID, node: int = 7
) -> fleet_pb2.PushMessagesRequest:
    asked = fleet_pb2.PushMessagesRequest(node=node_pb2.Node(node_id=node))
    told = asked.messages_list.add().metadata
    told.reply_to_message_id, told.src_node_id, told.dst_node_id, told.message_id = (
        reply_to,
        source,
        target,
        "new",
    )
    asked.message_object_trees.add().object_id = "new"
    return asked


def test_a_site_deals_with_its_own_messages(place: SimpleNamespace) -> None:
    place.door.admit(_headers(place, "a"))
    place.door.admit(_headers(place, "b"))
    _told(place, "a", "ma", ("oa",))
    _told(place, "b", "mb", ("ob",))
    check = place.door.check
    check("a", message_pb2.PullObjectRequest(object_id="oa"))
    check("a", _push("ma", 7))
    check("a", message_pb2.PushObjectRequest(object_id="new"))
    check("a", message_pb2.ConfirmMessageReceivedRequest(message_object_id="ma"))
    confirm, pull, push = (
        message_pb2.ConfirmMessageReceivedRequest, message_pb2.PullObjectRequest, message_pb2.PushObjectRequest,
    )  # fmt: skip
    foreign = [
        pull(object_id="ob"), confirm(message_object_id="mb"), confirm(message_object_id="oa"), push(object_id="ob"),
        _push("mb", 7), _push("ma", 8), _push("ma", 7, 8), _push("", SUPERLINK_NODE_ID, 8), _push("", 7),
        fleet_pb2.PushMessagesRequest(node=node_pb2.Node(node_id=7)),
    ]  # fmt: skip
    for asked in foreign:
        assert _refused(lambda asked=asked: check("a", asked)) == "not_yours", asked  # type: ignore[misc]


def test_what_is_remembered_has_an_end(place: SimpleNamespace) -> None:
    place.door.admit(_headers(place, "a"))
    for number in range(5000):
        _told(place, "a", f"m{number}", (f"o{number}",))
    guest = place.door._guests["a"]
    assert len(guest.messages) <= 4096
    assert len(guest.readable) <= 4096
    for _ in range(50):
        place.door.admit(_headers(place, "a"))
    place.now.wall += 1000
    place.now.since += 1
    place.door.admit(_headers(place, "a"))
    assert len(place.door._used) == 1


def test_a_refusal_tells_cause_and_next_step_and_nothing_else() -> None:
    sent = Refusal("clock", "600 s ahead")
    got = Refusal.parse("clock", sent.body())
    assert got is not None
    assert got.sentence() == sent.sentence()
    assert Refusal.parse("no such thing", b"{}") is None
    for hostile in (b"{", b"[]", b'{"what": "rm -rf"}'):
        told = Refusal.parse("clock", hostile)
        assert told is not None
        assert "rm" not in told.sentence()

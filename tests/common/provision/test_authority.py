"""Certificates of the league's own authority, held against OpenSSL's rules by real handshakes in memory."""

from __future__ import annotations

import hashlib
import json
import ssl
import stat
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import RunError
from common.provision.authority import Authority, check_signature, fingerprint, pem, write_private
from common.provision.site_keys import Request, public_halves, write_keys

ADDRESSES = ("league.example.org", "127.0.0.1", "::1")


def _csr(key: ec.EllipticCurvePrivateKey, name: str = "a") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA384())
    return asked.public_bytes(serialization.Encoding.PEM)


def _handshake(
    folder: Path, trusted: Authority, server: tuple[bytes, bytes], client: tuple[bytes, bytes] | None, name: str,
    revoked: Sequence[int] = (),
) -> None:  # fmt: skip
    for who, pair in (("server", server), ("client", client)):
        if pair:
            (folder / f"{who}.crt").write_bytes(pair[0])
            (folder / f"{who}.key").write_bytes(pair[1])
    (folder / "ca.crt").write_bytes(trusted.pem())
    (folder / "crl").write_bytes(trusted.revocations(revoked))
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(folder / "server.crt", folder / "server.key")
    there.load_verify_locations(folder / "ca.crt")
    there.load_verify_locations(folder / "crl")
    there.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    there.verify_mode = ssl.CERT_REQUIRED
    here = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    if client:
        here.load_cert_chain(folder / "client.crt", folder / "client.key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    mine = here.wrap_bio(down, up, server_hostname=name)
    theirs = there.wrap_bio(up, down, server_side=True)
    done = 0
    for _ in range(6):
        for side in (mine, theirs):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
    assert done >= 2


@pytest.fixture(scope="module")
def league() -> tuple[Authority, tuple[bytes, bytes], tuple[bytes, bytes]]:
    authority = Authority.create("north")
    key = ec.generate_private_key(ec.SECP384R1())
    return authority, authority.issue_server(ADDRESSES), (authority.issue_client("a", _csr(key)), pem(key))


@pytest.mark.parametrize("name", ADDRESSES)
def test_all_addresses_of_a_server_are_good(league, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _handshake(tmp_path, *league, name)


@pytest.mark.parametrize("name", ["other.example.org", "127.0.0.2", "example.org"])
def test_another_name_is_refused(league, name: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|match|valid"):
        _handshake(tmp_path, *league, name)


def test_no_other_expired_or_revoked_certificate(league, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    authority, server, client = league
    key = ec.generate_private_key(ec.SECP384R1())
    foreign = (Authority.create("north").issue_client("a", _csr(key)), pem(key))
    old = (replace(authority, leaf_days=0).issue_client("a", _csr(key)), pem(key))
    serial = x509.load_pem_x509_certificate(client[0]).serial_number
    for shown, revoked in ((foreign, ()), (old, ()), (client, (serial,)), (server, ()), (None, ())):
        with pytest.raises(ssl.SSLError):
            _handshake(tmp_path, authority, server, shown, "127.0.0.1", revoked)
    _handshake(tmp_path, authority, server, client, "127.0.0.1", (serial + 1,))


def test_a_client_is_no_server(league, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    authority, _, client = league
    with pytest.raises(ssl.SSLError):
        _handshake(tmp_path, authority, client, client, "127.0.0.1")


def test_read_gives_what_was_written_for_its_owner_alone(tmp_path: Path) -> None:
    authority = Authority.create("north")
    authority.write(tmp_path)
    again = Authority.read(tmp_path)
    assert again.certificate == authority.certificate
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    check_signature(authority.pem(), b"data", again.sign(b"data"), "x")
    with pytest.raises(RunError):
        check_signature(authority.pem(), b"data2", again.sign(b"data"), "x")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "ca.key", b"")


def test_only_p384_is_certified() -> None:
    with pytest.raises(RunError, match="P-384"):
        Authority.create("north").issue_client("a", _csr(ec.generate_private_key(ec.SECP256R1())))


def test_a_request_proves_that_its_maker_holds_the_keys(tmp_path: Path) -> None:
    asked, other = write_keys(tmp_path / "a", "a"), write_keys(tmp_path / "b", "b")
    path = tmp_path / "a.request.json"
    path.write_text(json.dumps(asdict(asked)))
    assert Request.read(path) == asked
    held = json.loads((tmp_path / "a" / "keys.json").read_text())
    assert public_halves(held) == {"ed25519": asked.sign, "x25519": asked.agree, "rsa": asked.wrap}
    for stolen in ("node_key", "certificate", "sign", "agree", "wrap", "name"):
        path.write_text(json.dumps({**asdict(asked), stolen: getattr(other, stolen)}))
        with pytest.raises(RunError, match="holds its keys"):
            Request.read(path)
    for damaged in ("{}", "[]", '{"name": "a"}'):
        path.write_text(damaged)
        with pytest.raises(RunError):
            Request.read(path)
    secret = held["ed25519"]
    assert secret not in json.dumps(asdict(asked))


def test_fingerprints_are_openssls(league) -> None:  # type: ignore[no-untyped-def]
    der = ssl.PEM_cert_to_DER_cert(league[0].pem().decode())
    assert fingerprint(league[0].pem()) == hashlib.sha256(der).hexdigest()

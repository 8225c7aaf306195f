"""The league's own certificate authority, and the keys by which a league's machines recognise each other.

Invariants: a private key has mode 0600 from its creation and never leaves its folder. A server's certificate names
every address under which the server is reached (RFC 5280 subjectAltName), because TLS checks nothing else. A client's
certificate isn't valid for a server, nor a server's for a client.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.errors import RunError
from common.provision import kit_files

_SKEW = dt.timedelta(minutes=15)  # a machine whose clock is a little behind shall accept a new certificate
_AUTHORITY_DAYS, _LEAF_DAYS = 3650, 397
_CURVE = ec.SECP384R1


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one league."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    leaf_days: int = _LEAF_DAYS

    @classmethod
    def create(cls, league: str) -> Authority:
        """A new authority; its key exists in memory only until `write` is called."""
        key = ec.generate_private_key(_CURVE())
        name = _name(f"{league} authority")
        uses = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        built = (
            _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(uses, critical=True)
        )
        return cls(key, built.sign(key, hashes.SHA384()))

    @classmethod
    def read(cls, folder: Path) -> Authority:
        """Read the authority that `write` wrote."""
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 — we wrote it
        return cls(key, x509.load_pem_x509_certificate((folder / kit_files.AUTHORITY).read_bytes()))

    def write(self, folder: Path) -> None:
        """Write key and certificate as `ca.key` and `ca.crt`."""
        write_private(folder / "ca.key", pem(self.key))
        (folder / kit_files.AUTHORITY).write_bytes(self.pem())

    def pem(self) -> bytes:
        """The authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, addresses: Sequence[str]) -> tuple[bytes, bytes]:
        """(certificate, key) in PEM for a server that is reached under these names and addresses."""
        key = ec.generate_private_key(_CURVE())
        alternatives = x509.SubjectAlternativeName([_address(address) for address in addresses])
        return self._leaf(key.public_key(), addresses[0], ExtendedKeyUsageOID.SERVER_AUTH, alternatives), pem(
            key
        )

    def issue_client(self, name: str, request: bytes) -> bytes:
        """The client certificate of a site, in PEM, for the site's request (PKCS #10).

        Raises
        ------
        RunError : the request is for another kind of key.
        """
        key = x509.load_pem_x509_csr(request).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE.name:
            raise RunError("the request isn't for an ECDSA P-384 key", where=f"site '{name}'")
        return self._leaf(key, name, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def revocations(self, serials: Sequence[int]) -> bytes:
        """The list of revoked certificates (RFC 5280 CRL), in PEM; it may be empty."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _SKEW)
            .next_update(self.certificate.not_valid_after_utc)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _SKEW)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)

    def sign(self, data: bytes) -> bytes:
        """A signature that `check_signature` accepts."""
        return self.key.sign(data, ec.ECDSA(hashes.SHA384()))

    def _leaf(
        self, key: ec.EllipticCurvePublicKey, name: str, use: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> bytes:  # fmt: skip
        builder = (
            _builder(_name(name), self.certificate.subject, key, self.leaf_days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def node_key() -> tuple[bytes, bytes]:
    """(private, public) key of a Flower node, ECDSA P-384 in OpenSSH's form."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, public + b"\n"


def check_signature(certificate: bytes, data: bytes, signature: bytes, where: str) -> None:
    """Check what an authority signed.

    Raises
    ------
    RunError : the signature isn't that of the authority with this certificate.
    """
    key = x509.load_pem_x509_certificate(certificate).public_key()
    try:
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 — authorities are made here
        key.verify(signature, data, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise RunError(
            "the league's authority didn't sign this", where=where, why="it was edited, or is of another league",
            next_step="ask who provisions the league for it again, and compare the authority's fingerprint",
        ) from None  # fmt: skip


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in PEM, in hex: what the coordinator's list of sites holds."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256()).hex()


def write_private(path: Path, data: bytes) -> None:
    """Write a new secret file, which from its creation only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key, unencrypted, in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

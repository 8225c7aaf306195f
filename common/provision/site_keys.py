"""A site's own keys, and the request that brings its public keys into a contract.

Invariants: a private key is made on the machine that uses it, or in its site's kit, and nowhere else. A request proves
that its maker holds each private key, so nobody can register another's public key under their own name (RFC 2986 proves
it for the certificate, an Ed25519 signature for the other keys).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from common.canonical import readable
from common.errors import RunError
from common.files import read_json
from common.provision import kit_files
from common.provision.authority import node_key, pem, write_private

_LABEL = b"hansa site request v1\n"


def make_keys() -> dict[str, str]:
    """New keys to sign (Ed25519), to agree on masks (X25519) and to unwrap the league's key (RSA, 3072 bits)."""
    private = rsa.generate_private_key(65537, 3072)
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    der = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "ed25519": Ed25519PrivateKey.generate().private_bytes_raw().hex(),
        "x25519": X25519PrivateKey.generate().private_bytes_raw().hex(),
        "rsa": text.decode(),
        "rsa_public": der.hex(),
    }


def new_signer(path: Path) -> str:
    """Write a new signing key (Ed25519) that only its owner can read; returns the public key in hex."""
    key = Ed25519PrivateKey.generate()
    write_private(path, key.private_bytes_raw().hex().encode())
    return key.public_key().public_bytes_raw().hex()


def public_halves(keys: Mapping[str, str]) -> dict[str, str]:
    """The public keys of a set of private keys, in hex."""
    sign = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"])).public_key()
    agree = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519"])).public_key()
    return {
        "ed25519": sign.public_bytes_raw().hex(), "x25519": agree.public_bytes_raw().hex(), "rsa": keys["rsa_public"],
    }  # fmt: skip


@dataclass(frozen=True)
class Request:
    """The request of a site that makes its own keys, for whoever provisions the league; it holds no secret.

    Parameters
    ----------
    node_key : public key of its Flower node, OpenSSH.
    certificate : request for its client certificate (PKCS #10, PEM).
    sign, agree, wrap : as in `Member`.
    """

    name: str
    node_key: str
    certificate: str
    sign: str
    agree: str
    wrap: str
    signature: str = ""

    def message(self) -> bytes:
        """The bytes that are signed."""
        body = {name: value for name, value in asdict(self).items() if name != "signature"}
        return _LABEL + json.dumps(body, sort_keys=True).encode()

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request and check that its maker holds the keys.

        Raises
        ------
        RunError : it's damaged, or a signature in it is wrong.
        """
        try:
            request = cls(**read_json(path))
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(request.sign))
            key.verify(bytes.fromhex(request.signature), request.message())
            certificate_request = x509.load_pem_x509_csr(request.certificate.encode())
            named = certificate_request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            if not certificate_request.is_signature_valid or named != request.name[:64]:
                raise ValueError
        except (TypeError, ValueError, IndexError, InvalidSignature):
            raise RunError(
                "the site's request is damaged, or not made by who holds its keys", where=path.name,
                next_step="make it anew with 'hansa site request'",
            ) from None  # fmt: skip
        return request


def write_keys(folder: Path, name: str) -> Request:
    """Make all private keys of a site in a folder; returns the request for their public keys."""
    keys, (private, public) = make_keys(), node_key()
    client = ec.generate_private_key(ec.SECP384R1())
    write_private(folder / kit_files.KEYS, (readable(keys) + "\n").encode())
    write_private(folder / kit_files.NODE_KEY, private)
    write_private(folder / kit_files.CLIENT_KEY, pem(client))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate_request = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(client, hashes.SHA384())
    )
    halves = public_halves(keys)
    bare = Request(
        name, public.decode().strip(), certificate_request.public_bytes(serialization.Encoding.PEM).decode(),
        halves["ed25519"], halves["x25519"], halves["rsa"],
    )  # fmt: skip
    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"]))
    return Request(**{**asdict(bare), "signature": signer.sign(bare.message()).hex()})

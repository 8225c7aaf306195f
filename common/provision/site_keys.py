"""The keys by which a site's updates are known, and the request by which its public ones come into a contract.

Invariants: a private key is made where it's used, or in the kit of its site and nowhere else; a request proves that its
maker holds each key that it names, so nobody can have another's key written under their own name (RFC 2986 does it for
the certificate, an Ed25519 signature for the rest).
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
from common.provision.authority import node_key, pem, write_private

KEYS_FILE, NODE_FILE, CLIENT_FILE = "keys.json", "node.key", "client.key"
_LABEL = b"hansa site request v1\n"


def make_keys() -> dict[str, str]:
    """Fresh keys that sign (Ed25519), agree on masks (X25519) and unwrap the league's key (RSA, 3072 bits)."""
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
    """Write a fresh key that signs (Ed25519) where its owner alone may read it; returns its public half, in hex."""
    key = Ed25519PrivateKey.generate()
    write_private(path, key.private_bytes_raw().hex().encode())
    return key.public_key().public_bytes_raw().hex()


def public_halves(keys: Mapping[str, str]) -> dict[str, str]:
    """What others may know of these keys, in hex."""
    sign = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"])).public_key()
    agree = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519"])).public_key()
    return {
        "ed25519": sign.public_bytes_raw().hex(), "x25519": agree.public_bytes_raw().hex(), "rsa": keys["rsa_public"],
    }  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What a site that makes its own keys sends to who provisions the league; it holds no secret.

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
        """What the signature is over."""
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
            made = cls(**read_json(path))
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(made.sign))
            key.verify(bytes.fromhex(made.signature), made.message())
            asked = x509.load_pem_x509_csr(made.certificate.encode())
            named = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            if not asked.is_signature_valid or named != made.name[:64]:
                raise ValueError
        except (TypeError, ValueError, IndexError, InvalidSignature):
            raise RunError(
                "the site's request is damaged, or not made by who holds its keys", where=path.name,
                next_step="make it anew with 'hansa site request'",
            ) from None  # fmt: skip
        return made


def write_keys(folder: Path, name: str) -> Request:
    """Make all of a site's private keys in a folder, and the request for them."""
    keys, (private, public) = make_keys(), node_key()
    client = ec.generate_private_key(ec.SECP384R1())
    write_private(folder / KEYS_FILE, (readable(keys) + "\n").encode())
    write_private(folder / NODE_FILE, private)
    write_private(folder / CLIENT_FILE, pem(client))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(client, hashes.SHA384())
    halves = public_halves(keys)
    bare = Request(
        name, public.decode().strip(), asked.public_bytes(serialization.Encoding.PEM).decode(),
        halves["ed25519"], halves["x25519"], halves["rsa"],
    )  # fmt: skip
    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"]))
    return Request(**{**asdict(bare), "signature": signer.sign(bare.message()).hex()})

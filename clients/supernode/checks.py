"""Checks of whether a site can take part: its kit, its clock, and the connection to the coordinator, each by itself.

Invariants: each fault names its cause and the next step. Only one request is sent, and it's empty. A coordinator that
can't be reached isn't a fault of the site; the site then waits for it.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import os
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from clients.supernode.kit import Kit
from common.errors import HansaError, MachineError, RunError, WireError
from common.files import read_json
from common.provision import kit_files
from common.provision.door import CLOCK_S, EDITION, INSTANCE, REFUSED, Refusal
from common.provision.site_keys import public_halves

Verdict = Literal["ok", "fault", "unknown"]
_ASK_S = 10.0


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    name: str
    verdict: Verdict
    told: str
    next_step: str = ""


def look_over(kit: Kit) -> list[CheckResult]:
    """Run all checks, in an order in which each helps to understand the next."""
    return [_finding(name, look, kit) for name, look in _LOOKS]


def require_fit(kit: Kit) -> None:
    """Stop at the first check that finds a fault.

    Raises
    ------
    HansaError : the first fault.
    """
    for _, look in _LOOKS:
        try:
            look(kit)
        except Unreachable:
            continue  # the SuperNode goes on trying


class Unreachable(MachineError):
    """The coordinator doesn't answer, which may be temporary."""


def _finding(name: str, look: Callable[[Kit], str], kit: Kit) -> CheckResult:
    try:
        return CheckResult(name, "ok", look(kit))
    except Unreachable as fault:
        return CheckResult(name, "unknown", fault.sentence(), fault.next_step)
    except HansaError as fault:
        return CheckResult(name, "fault", fault.sentence(), fault.next_step)


def _contract(kit: Kit) -> str:
    contract = kit.contract()
    contract.require_valid(dt.datetime.now(dt.UTC))
    private = contract.config.privacy
    promised = (
        f"ε = {private.epsilon:g} per user and run" if private.mode == "user" else "no differential privacy"
    )
    names = ", ".join(member.name for member in contract.members)
    until = f", until {contract.until}" if contract.until else ""
    return f"edition {contract.edition}: {names}; {contract.config.rounds.protection}, {promised}{until}"


def _code(kit: Kit) -> str:
    kit.contract().require_code()
    return "the installed Hansa is the contract's"


def _secrets(kit: Kit) -> str:
    for name in (kit_files.NODE_KEY, kit_files.CLIENT_KEY, kit_files.KEYS):
        path = kit.private / name
        if not path.exists():
            raise RunError(
                "a private key is missing", where=f"private/{name}",
                next_step="unpack the kit with 'hansa site join' where 'hansa site request' was run",
            )  # fmt: skip
        if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.stat().st_uid != os.getuid():
            raise RunError(
                "others may read a private key",
                where=f"private/{name}",
                next_step="chmod 600, and chown to this user",
            )
    member = kit.contract().member(kit.name)
    if public_halves(read_json(kit.private / kit_files.KEYS)) != member.public_keys():
        raise RunError(
            "the site's keys aren't those of the contract", where=f"private/{kit_files.KEYS}",
            next_step="use keys and contract of one and the same kit",
        )  # fmt: skip
    return "readable by this user alone, and the contract's"


def _certificate(kit: Kit) -> str:
    certificate = x509.load_pem_x509_certificate((kit.folder / kit_files.CLIENT_CERTIFICATE).read_bytes())
    key = serialization.load_pem_private_key((kit.private / kit_files.CLIENT_KEY).read_bytes(), None)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise RunError(
            "certificate and key don't belong together",
            where=kit_files.CLIENT_CERTIFICATE,
            next_step="use one kit's",
        )
    ends = certificate.not_valid_after_utc
    days_left = (ends - dt.datetime.now(dt.UTC)).days
    if days_left < 0:
        raise RunError(
            f"the site's certificate expired on {ends.date()}", where=kit_files.CLIENT_CERTIFICATE,
            next_step="ask for a renewed one; if this machine's clock is wrong, set it",
        )  # fmt: skip
    return f"valid for {days_left} more days"


def _way(kit: Kit) -> str:
    """Send the coordinator an empty request: the answer shows whether it accepts the site, and its time."""
    response = ask_for_nothing(kit)
    own_time, coordinator_time = time.time(), _date(response)
    if coordinator_time is not None and abs(own_time - coordinator_time) > CLOCK_S:
        way = "ahead of" if own_time > coordinator_time else "behind"
        raise Refusal("clock", f"{abs(own_time - coordinator_time):.0f} s {way} it")
    no = Refusal.parse(response.headers.get(REFUSED, ""), response.content)
    # The request isn't signed, so for an admitted site the coordinator only demands the node's signature.
    if no is not None and no.code not in ("node_key", "duplicate"):
        raise no
    if no is None and response.status_code in (502, 503, 504):
        raise Unreachable("the coordinator's guard is up, its SuperLink isn't", where=kit.coordinator)
    return f"{kit.coordinator} answers, and accepts the site's certificate"


def ask_for_nothing(kit: Kit) -> httpx.Response:
    """Send an empty request over the site's own TLS connection.

    Raises
    ------
    WireError : the coordinator isn't the league's, or refuses the certificate.
    Unreachable : nobody answers.
    """
    from clients.supernode.node import site_context  # Flower takes seconds to import

    headers = {
        "content-type": "application/protobuf", INSTANCE: kit.instance(), EDITION: str(kit.contract().edition),
    }  # fmt: skip
    try:
        with httpx.Client(verify=site_context(kit), timeout=_ASK_S, trust_env=False) as client:
            return client.post(
                f"https://{kit.coordinator}/v1/fleet/pull-messages", content=b"", headers=headers
            )
    except (httpx.TransportError, ssl.SSLError) as fault:
        raise _explained(str(fault), kit) from None


def _explained(fault_text: str, kit: Kit) -> HansaError:
    no = Refusal.of_alert(fault_text)
    if no is not None:
        return no
    if "CERTIFICATE_VERIFY_FAILED" in fault_text:
        why = fault_text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        if "expired" in why or "not yet valid" in why:
            return WireError(
                "the coordinator's certificate isn't valid now", where=kit.coordinator, why=why,
                next_step="ask for 'hansa provision --renew coordinator'; if this machine's clock is wrong, set it",
            )  # fmt: skip
        return WireError(
            "whoever answers isn't this league's coordinator", where=kit.coordinator, why=why,
            next_step="check the address in site.json with who provisions the league; don't go on without it",
        )  # fmt: skip
    return Unreachable(
        "the coordinator can't be reached", where=kit.coordinator, why=fault_text[:200],
        next_step="is it up? does a firewall stand between? the site keeps trying",
    )  # fmt: skip


def _date(response: httpx.Response) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


_LOOKS: tuple[tuple[str, Callable[[Kit], str]], ...] = (
    ("contract", _contract),
    ("code", _code),
    ("private keys", _secrets),
    ("certificate", _certificate),
    ("coordinator", _way),
)

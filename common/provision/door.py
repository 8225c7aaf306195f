"""The one door between the sites and the coordinator: which requests may pass, and how a refusal is explained.

Invariant: both sides read the same table, so a refusal that a site gets always names its cause and the next step, and
nothing else.
"""

from __future__ import annotations

import json

from common.errors import WireError

ROUTES = frozenset(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run",
        "get-fab", "push-object", "pull-object", "confirm-message-received",
    )
)  # fmt: skip
"""The part of Flower's Fleet interface that a SuperNode needs; registering nodes is left to the coordinator."""
MOST_BODY_BYTES = 64 << 20
CERTIFICATE, INSTANCE, EDITION, REFUSED = (
    "x-hansa-certificate",
    "x-hansa-instance",
    "x-hansa-edition",
    "x-hansa-refused",
)
CLOCK_S = (
    120.0  # a machine whose clock is off by more is told so; Flower refuses from 300 s on, without a reason
)

_TABLE: dict[str, tuple[int, str, str]] = {
    "route": (404, "nothing but the site's own messages passes here", "use the coordinator's machine for all else"),
    "too_large": (413, "the message is larger than any of a league", "look for another version of Hansa here"),
    "certificate_missing": (
        403, "the site shows no certificate", "start the site with 'hansa site up', which shows its kit's",
    ),
    "certificate_unknown": (
        403, "the contract doesn't know the site's certificate",
        "use the newest kit; if the site has left the league, it can't come back with this one",
    ),
    "certificate_expired": (403, "the site's certificate has expired", "ask for a renewed one"),
    "certificate_revoked": (
        403,
        "the site's certificate was revoked",
        "ask who provisions the league; a new kit is needed",
    ),
    "node_key": (
        403, "the node's key isn't the one that the contract pairs with the certificate",
        "use certificate and node key of one and the same kit",
    ),
    "clock": (403, "the site's clock differs from the coordinator's", "set this machine's clock, with NTP if you can"),
    "replayed": (403, "the same signed request came twice", "send nothing twice; if you didn't, look who else does"),
    "duplicate": (
        409, "another process speaks for this site already",
        "stop the other one, or wait half a minute after it died",
    ),
    "old_contract": (
        403, "the site holds an edition of the contract that is too old", "get the new contract.json and "
        "contract.sig, and give them to 'hansa site accept'",
    ),
    "contract_over": (403, "the league's contract has run out", "ask for the league's next edition"),
    "not_yours": (403, "the message isn't this site's", "report it: a well-meant site never asks for this"),
}  # fmt: skip


# OpenSSL's names of the alerts for a refused certificate → the codes of the table above.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "certificate_expired",
    "CERTIFICATE_REVOKED": "certificate_revoked",
    "UNKNOWN_CA": "certificate_unknown",
    "BAD_CERTIFICATE": "certificate_unknown",
    "DECRYPT_ERROR": "certificate_unknown",
    "CERTIFICATE_REQUIRED": "certificate_missing",
}


class Refusal(WireError):
    """A refused request.

    Parameters
    ----------
    code : key of the table above.
    detail : a figure or two, never data.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.status, what, next_step = _TABLE[code]
        self.code, self.detail = code, detail
        message = f"{what} ({detail})" if detail else what
        super().__init__(message, where="the coordinator's door", next_step=next_step)

    def body(self) -> bytes:
        """The refusal as the body of an HTTP answer."""
        return json.dumps({"code": self.code, "what": self.what, "next_step": self.next_step}).encode()

    @classmethod
    def of_alert(cls, fault_text: str) -> Refusal | None:
        """The refusal in a failed TLS connection's alert, or None if the alert isn't about the site's certificate."""
        codes = (
            code
            for alert, code in _ALERTS.items()
            if f"ALERT_{alert}" in fault_text.upper().replace(" ", "_")
        )
        code = next(codes, None)
        return cls(code) if code else None

    @classmethod
    def parse(cls, code: str, body: bytes) -> Refusal | None:
        """Read a refusal from the other side; None if this side's table doesn't have its code."""
        if code not in _TABLE:
            return None
        try:
            message = str(json.loads(body).get("what", ""))
        except (ValueError, AttributeError):
            message = ""
        head, _, detail = message.partition(" (")
        return cls(code, detail.rstrip(")")[:120] if head == _TABLE[code][1] else "")

"""The one door between a site and the coordinator: what may pass it, and how a refusal is told.

Invariant: both sides read the same table, so a refusal that a site gets always names its cause and the next step, and
holds nothing else.
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
"""What a SuperNode needs of the Fleet interface; it registers no nodes, the coordinator does."""
MOST_BODY_BYTES = 64 << 20
CERTIFICATE, INSTANCE, EDITION, REFUSED = (
    "x-hansa-certificate",
    "x-hansa-instance",
    "x-hansa-edition",
    "x-hansa-refused",
)
CLOCK_S = 120.0  # a machine this far off gets told so; Flower itself refuses after 300 s, without a reason

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


# What OpenSSL calls the alerts that a refused certificate meets with, by our own names for them.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "certificate_expired",
    "CERTIFICATE_REVOKED": "certificate_revoked",
    "UNKNOWN_CA": "certificate_unknown",
    "BAD_CERTIFICATE": "certificate_unknown",
    "DECRYPT_ERROR": "certificate_unknown",
    "CERTIFICATE_REQUIRED": "certificate_missing",
}


class Refusal(WireError):
    """A request that is turned away.

    Parameters
    ----------
    code : key of the table above.
    detail : a figure or two, never data.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.status, what, next_step = _TABLE[code]
        self.code, self.detail = code, detail
        told = f"{what} ({detail})" if detail else what
        super().__init__(told, where="the coordinator's door", next_step=next_step)

    def body(self) -> bytes:
        """As it travels."""
        return json.dumps({"code": self.code, "what": self.what, "next_step": self.next_step}).encode()

    @classmethod
    def of_alert(cls, told: str) -> Refusal | None:
        """What a failed TLS connection tells of the site's certificate, if it does."""
        found = (
            code for alert, code in _ALERTS.items() if f"ALERT_{alert}" in told.upper().replace(" ", "_")
        )
        code = next(found, None)
        return cls(code) if code else None

    @classmethod
    def parse(cls, code: str, body: bytes) -> Refusal | None:
        """A refusal from the other side, as far as this side's table knows it."""
        if code not in _TABLE:
            return None
        try:
            told = str(json.loads(body).get("what", ""))
        except (ValueError, AttributeError):
            told = ""
        head, _, detail = told.partition(" (")
        return cls(code, detail.rstrip(")")[:120] if head == _TABLE[code][1] else "")

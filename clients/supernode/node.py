"""Flower's SuperNode, with four things changed: it shows the site's certificate, understands the coordinator's
refusals, asks for work several times a second in place of once in three, and drops a message whole.

    python -m clients.supernode.node --kit KIT --refusal FILE <arguments of flower-supernode>

Invariant: this is Flower's program; everything that is different is here and in `common.flower.supernode`.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from clients.supernode.kit import Kit
from common.files import write_json
from common.flower.pace import quicken
from common.flower.supernode import Call, RequestContext, run_supernode
from common.provision import kit_files
from common.provision.door import EDITION, INSTANCE, REFUSED, Refusal
from common.runtime.pauses import Pauses

_IDLE_S = (
    1.0  # Flower sleeps three seconds where there's no message, half a second where its worker is at one
)
REFUSED_CODE = 3


class DoorInterceptor:
    """Adds the site's headers to requests, and ends the process with the reason if the coordinator refuses the site."""

    def __init__(self, headers: dict[str, str], refusal: Path) -> None:
        self._headers, self._refusal = headers, refusal

    def intercept(self, context: RequestContext, call_next: Call) -> httpx.Response:
        """Add the headers, send the request, and check the answer for a refusal."""
        context.request.headers.update(self._headers)
        try:
            response = call_next(context)
        except httpx.TransportError as fault:
            no = Refusal.of_alert(str(fault))
            if no is None:
                raise  # Flower tries again
        else:
            no = Refusal.parse(response.headers.get(REFUSED, ""), response.content)
        if no is not None and no.code not in ("not_yours", "too_large"):
            write_json(self._refusal, {"code": no.code, "detail": no.detail})
            sys.stderr.write(no.sentence() + "\n")
            sys.stderr.flush()
            os._exit(REFUSED_CODE)  # from any of Flower's threads, all of which would only try again
        return response


def site_context(kit: Kit) -> ssl.SSLContext:
    """A TLS context that trusts only the league's authority and shows the site's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(kit.folder / kit_files.AUTHORITY)
    context.load_cert_chain(kit.folder / kit_files.CLIENT_CERTIFICATE, kit.private / kit_files.CLIENT_KEY)
    return context


def main() -> None:
    """Run the SuperNode with the arguments of `flower-supernode`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--refusal", type=Path, required=True)
    own, flowers = parser.parse_known_args()
    sys.argv[1:] = flowers
    kit = Kit.read(own.kit)
    door = DoorInterceptor({INSTANCE: kit.instance(), EDITION: str(kit.contract().edition)}, own.refusal)
    tls = site_context(kit)
    quicken()
    run_supernode(door, tls, short_sleep(Pauses(0.1, 1.0)))


def short_sleep(pauses: Pauses, sleep: Callable[[float], None] = time.sleep) -> Callable[[float], None]:
    """A replacement for the SuperNode's sleep, which is half a second for its worker or three seconds for work."""

    def nap(seconds: float) -> None:
        if seconds < _IDLE_S:
            pauses.worked()
        sleep(min(seconds, pauses.next_s()))

    return nap


if __name__ == "__main__":
    main()

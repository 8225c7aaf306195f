"""A coordinator of real processes, and what somebody who sits at a site can send it, with any mixture of keys."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from clients.supernode.kit import Kit
from common.provision.door import INSTANCE, REFUSED
from common.runtime.processes import Child, free_port, stop
from common.settings.load import load_config
from server.superlink.orders import Post
from simulations.deployment.kits import provision
from simulations.deployment.plan import ContractTerms, CoordinatorPlace, LeaguePlan, Party

NAMES = ("bergen", "hangzhou", "lubeck")
PROTOBUF = {"content-type": "application/protobuf"}
_START_S = 120.0


def make_plan(
    names: Sequence[str] = NAMES,
    *,
    listen: str = "127.0.0.1",
    addresses: Sequence[str] = ("127.0.0.1",),
    **terms: object,
) -> LeaguePlan:
    """A plan of a league on this machine, at a free port."""
    return LeaguePlan(
        coordinator=CoordinatorPlace(addresses=tuple(addresses), port=free_port(), listen=listen),
        contract=ContractTerms.model_validate(terms),
        site=tuple(Party(name=name) for name in names),
        settings=load_config({"name": "rehearsal", "rounds": {"protection": "he+masked", "deadline_s": 60}}),
    )


def make_kits(folder: Path, plan: LeaguePlan) -> Path:
    """Provision into a folder; returns it."""
    provision(plan, folder)
    return folder


@contextmanager
def coordinator_up(kit: Path, front: str = "guard") -> Iterator[Child]:
    """A coordinator that takes orders and lets sites in."""
    child = Child.start(
        "coordinator",
        ["-m", "server.superlink.supervisor", str(kit), "--front", front],
        kit / "logs" / "up.log",
    )
    try:
        ends = time.monotonic() + _START_S
        while not Post(kit).is_up():
            assert child.runs(), child.tail(3000)
            assert time.monotonic() < ends, child.tail(3000)
            time.sleep(0.1)
        yield child
    finally:
        assert stop([child], polite_s=30.0) == []


@dataclass
class Seat:
    """Somebody at a site's place on the network.

    Parameters
    ----------
    certificate, key : files shown to the coordinator; the kit's own unless given.
    node : file of the node key that signs; the kit's own unless given.
    """

    kit: Kit
    certificate: Path | None = None
    key: Path | None = None
    node: Path | None = None
    instance: str = ""
    node_id: int = 0

    @classmethod
    def at(cls, kits: Path, name: str, **more: Path) -> Seat:
        """The place of a site, by name."""
        return cls(Kit.read(kits / "sites" / name), **more)

    def tls(self, *, shows: bool = True) -> ssl.SSLContext:
        """What the place trusts and shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.kit.folder / "ca.crt")
        if shows:
            context.load_cert_chain(
                self.certificate or self.kit.folder / "client.crt",
                self.key or self.kit.private / "client.key",
            )
        return context

    def http(self, *, shows: bool = True) -> httpx.Client:
        """Plain HTTP over that."""
        return httpx.Client(
            verify=self.tls(shows=shows), base_url=f"https://{self.kit.coordinator}", timeout=20.0
        )

    def fleet(self) -> FleetHttpClient:
        """Flower's own client, with requests signed by the place's node key."""
        private = load_ssh_private_key((self.node or self.kit.private / "node.key").read_bytes(), None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        client = FleetHttpClient(
            f"https://{self.kit.coordinator}",
            interceptors=[NodeAuthHttpInterceptor(private, private.public_key())],
            verify=self.tls(),
        )
        client._client.headers[INSTANCE] = self.instance
        return client


def refusal(fault: httpx.HTTPStatusError) -> str:
    """The code with which a request was turned away."""
    return str(fault.response.headers.get(REFUSED, f"no reason, status {fault.response.status_code}"))

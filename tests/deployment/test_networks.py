"""A league over networks as they are: each party in a network namespace of its own, each site on a slow, lossy link.

coordinator 10.77.0.1 ─┬─ site 10.77.0.11      each site's link, both ways:
                       ├─ site 10.77.0.12      50 ms, 1 % loss, 20 Mbit/s
                       └─ site 10.77.0.13
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.files import read_lines
from common.runtime.processes import Child, stop
from common.storage.run_folder import RunFolder
from server.superlink.commands import await_model, order_run, run_of
from server.superlink.orders import Post
from simulations.deployment.kits import provision
from simulations.deployment.local import LocalLeague
from simulations.deployment.plan import plan_of
from tests.deployment.support.leagues import FAST, new_league, simulated, wait_until
from tests.deployment.support.wires import Wires, open_device

pytestmark = pytest.mark.slow
_IP = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
_HERE, _PORT = "10.77.0.1", 9443
_LINK = {"delay_s": 0.05, "loss": 0.01, "bits_per_s": 20e6}
_NAMES = ("coordinator", "site0", "site1", "site2")


def _ip(*words: str) -> None:
    subprocess.run([str(_IP), *words], check=True, capture_output=True)


class Network:
    """Namespaces of a coordinator and three sites, and the wires between them."""

    def __init__(self, prefix: str) -> None:
        self._prefix, devices = prefix, {}
        for name in _NAMES:
            space = self.space(name)
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "tuntap", "add", "dev", "net", "mode", "tun")
            devices[self.address(name)] = open_device(space, "net")
            _ip("-n", space, "addr", "add", f"{self.address(name)}/24", "dev", "net")
            _ip("-n", space, "link", "set", "net", "mtu", "1500", "up")
        self.wires = Wires(devices, _HERE, **_LINK)

    def space(self, name: str) -> str:
        """A namespace's name."""
        return f"{self._prefix}-{name}"

    def address(self, name: str) -> str:
        """A party's address."""
        return _HERE if name == "coordinator" else f"10.77.0.1{_NAMES.index(name)}"

    def start(self, name: str, module: str, *arguments: str, log: Path) -> Child:
        """Run one of our modules in a party's namespace."""
        words = [str(_IP), "netns", "exec", self.space(name), sys.executable, "-m", module, *arguments]
        return Child.start(name, words, log)


@pytest.fixture
def network() -> Iterator[Network]:
    """Namespaces, where this machine lets us make them."""
    if not _IP or os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("network namespaces need root, ip and /dev/net/tun")
    prefix = f"hz{os.getpid() % 100000}"
    try:
        made = Network(prefix)
        yield made
        made.wires.close()
    except subprocess.CalledProcessError as fault:
        pytest.skip(f"this machine makes no such namespaces: {fault.stderr.decode()[:200]}")
    finally:
        for name in _NAMES:
            subprocess.run([_IP, "netns", "del", f"{prefix}-{name}"], check=False, capture_output=True)


def test_the_wires_are_slow_and_lossy(network: Network) -> None:
    """The links are what the other tests say: round trips of 100 ms or more, and packets that don't arrive."""
    done = subprocess.run(
        [str(_IP), "netns", "exec", network.space("site0"), sys.executable, "-c", _PING], check=True,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    answered, least_ms = done.stdout.split()
    assert 100.0 <= float(least_ms) < 300.0
    assert 150 <= int(answered) < 200
    network.wires.cut(network.address("site0"), off=True)
    cut = subprocess.run(
        [str(_IP), "netns", "exec", network.space("site0"), sys.executable, "-c", _PING.replace("200", "5")],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert cut.stdout.split()[0] == "0"


# Echo requests by hand, since not every machine has ping.
_PING = """
import socket, struct, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(1.0)
sent = {}
for n in range(200):
    head = struct.pack("!BBHHH", 8, 0, 0, 7, n)
    total = sum(struct.unpack("!4H", head))
    head = struct.pack("!BBHHH", 8, 0, ~(total + (total >> 16)) & 0xFFFF, 7, n)
    sent[n] = time.monotonic()
    s.sendto(head, ("10.77.0.1", 0))
    time.sleep(0.005)
times = {}
try:
    while True:
        data = s.recv(2048)
        kind, _, _, ident, n = struct.unpack("!BBHHH", data[20:28])
        if kind == 0 and ident == 7:
            times[n] = time.monotonic() - sent[n]
except TimeoutError:
    pass
print(len(times), 1000 * min(times.values(), default=0))
"""


class SpreadLeague:
    """A league whose parties are in namespaces."""

    def __init__(self, folder: Path, network: Network, *, rounds: int, **settings: float) -> None:
        self.drawn: LocalLeague = new_league(folder / "league", rounds=rounds, settings={**FAST, **settings})
        self.kits = folder / "kits"
        config = self.drawn.contract.config
        provision(plan_of(config, self.drawn.sites, _HERE, _PORT), self.kits)
        self.kit = self.kits / "coordinator"
        self._network = network
        self.children: list[Child] = []

    @property
    def run(self) -> RunFolder:
        return run_of(self.kit)

    def start(self) -> None:
        """Coordinator first, then the sites."""
        log = self.kit / "logs" / "up.log"
        self.children.append(
            self._network.start("coordinator", "server.superlink.supervisor", str(self.kit), log=log)
        )
        wait_until("the coordinator", lambda: Post(self.kit).is_up(), seconds=120)
        for place, site in enumerate(self.drawn.sites):
            kit = self.kits / "sites" / site.name
            arguments = (str(kit), "--site", site.folder)
            log = kit / "logs" / "site.log"
            self.children.append(
                self._network.start(f"site{place}", "clients.supernode.supervisor", *arguments, log=log)
            )

    def stop(self) -> list[str]:
        """End all processes; names those that had to be made to."""
        return stop(self.children[1:], polite_s=30.0) + stop(self.children[:1], polite_s=30.0)


def test_a_slow_lossy_network_gives_the_same_model(network: Network, tmp_path: Path) -> None:
    league = SpreadLeague(tmp_path, network, rounds=3)
    try:
        league.start()
        await_model(league.kit, order_run(league.kit), lambda: None)
    finally:
        forced = league.stop()
    assert forced == []
    ours = (league.run.release / "model.safetensors").read_bytes()
    assert ours == simulated(league.drawn, tmp_path / "simulation")
    lines = read_lines(league.run.rounds_file)
    assert [len(line["sites"]) for line in lines] == [3, 3, 3]


def test_a_site_cut_off_for_a_round_comes_back(network: Network, tmp_path: Path) -> None:
    """The others go on without it; it catches up with the sums that it missed, and trains again."""
    league = SpreadLeague(tmp_path, network, rounds=5, **{"rounds.deadline_s": 40.0})
    try:
        league.start()
        order = order_run(league.kit)
        done = lambda: read_lines(league.run.rounds_file)  # noqa: E731
        wait_until("a round of three", lambda: done())
        network.wires.cut(network.address("site2"), off=True)
        wait_until("a round of two", lambda: any(len(line["sites"]) == 2 for line in done()))
        network.wires.cut(network.address("site2"), off=False)
        await_model(league.kit, order, lambda: time.sleep(0.1))
    finally:
        forced = league.stop()
    assert forced == []
    sites = [len(line["sites"]) for line in done()]
    assert sites[0] == 3
    assert 2 in sites
    assert sites[-1] == 3, sites
    assert (league.run.release / "model.safetensors").exists()

"""Sites and coordinators that can't take part: each refusal names its cause and the next step. Real processes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.supernode.checks import look_over
from clients.supernode.kit import Kit
from clients.supernode.membership import accept_contract
from common.files import PROJECT
from common.provision.authority import Authority
from common.provision.contract import FILE, SIGNATURE
from common.runtime.processes import Child, stop
from server.superlink.front import start_front
from server.superlink.orders import ADDRESS, Post
from simulations.deployment.kits import provision
from simulations.deployment.plan import Party
from tests.deployment.support.places import coordinator_up, make_kits, make_plan

pytestmark = pytest.mark.slow
# The same program under a clock that is wrong by some seconds.
_SHIFTED = (
    "import time; real = time.time; time.time = lambda: real() + {}; "
    "from clients.supernode.supervisor import main; raise SystemExit(main())"
)


def _up(
    kit: Path, site: Path, *, shift_s: int = 0, limit_s: float = 120.0
) -> subprocess.CompletedProcess[str]:
    start = ["-m", "clients.supernode.supervisor"] if not shift_s else ["-c", _SHIFTED.format(shift_s)]
    return subprocess.run(
        [sys.executable, *start, str(kit), "--site", str(site)], capture_output=True, text=True, timeout=limit_s,
        check=False, cwd=PROJECT,
    )  # fmt: skip


def _require(done: subprocess.CompletedProcess[str], cause: str, step: str, code: int) -> None:
    assert cause in done.stderr, done.stderr[-2000:]
    assert step in done.stderr.partition("Next: ")[2], done.stderr[-2000:]
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kits of a league, for guards without anything behind them."""
    return make_kits(tmp_path_factory.mktemp("guarded") / "kits", make_plan(("bergen", "lubeck")))


@pytest.fixture(scope="module", params=["guard", "nginx"])
def guarded(request: pytest.FixtureRequest, kits: Path) -> Iterator[Path]:
    """The guard alone is up: for what TLS decides, no SuperLink is needed."""
    if request.param == "nginx" and not shutil.which("nginx", path="/usr/sbin:/usr/bin"):
        pytest.skip("this machine has no nginx")
    coordinator = kits / "coordinator"
    (coordinator / "logs").mkdir(exist_ok=True)
    child = start_front(coordinator, "127.0.0.1:1", request.param, coordinator / "logs")
    assert child is not None
    yield kits
    stop([child])


def _copy(kits: Path, name: str, to: Path) -> Path:
    shutil.copytree(kits / "sites" / name, to)
    return to


def _told(kit: Path) -> str:
    """What asking the coordinator for nothing gives, whatever the kit itself looks like."""
    found = look_over(Kit.read(kit))[-1]
    assert found.name == "coordinator"
    assert found.next_step
    return found.told


def _certify(kits: Path, kit: Path, authority: Authority) -> None:
    """Give a kit a certificate of some authority for the key that it has."""
    asked = json.loads((kits / "authority" / "book.json").read_text())["requests"][Kit.read(kit).name]
    (kit / "client.crt").write_bytes(authority.issue_client(Kit.read(kit).name, asked.encode()))


def test_an_expired_certificate(guarded: Path, tmp_path: Path) -> None:
    kit = _copy(guarded, "bergen", tmp_path / "kit")
    _certify(guarded, kit, dataclasses.replace(Authority.read(guarded / "authority"), leaf_days=0))
    assert "expired" in _told(kit)
    _require(_up(kit, tmp_path), "the site's certificate expired on", "ask for a renewed one", 6)


def test_a_certificate_of_another_authority(guarded: Path, tmp_path: Path) -> None:
    kit = _copy(guarded, "bergen", tmp_path / "kit")
    _certify(guarded, kit, Authority.create("rehearsal"))
    _require(_up(kit, tmp_path), "the contract doesn't know the site's certificate", "use the newest kit", 4)


def test_a_coordinator_of_another_authority(guarded: Path, tmp_path: Path) -> None:
    """A site of another league, or a false coordinator: the site doesn't go on."""
    other = make_kits(tmp_path / "other", make_plan(("bergen",)))
    kit = _copy(other, "bergen", tmp_path / "kit")
    (kit / "site.json").write_bytes((guarded / "sites" / "bergen" / "site.json").read_bytes())
    _require(_up(kit, tmp_path), "isn't this league's coordinator", "check the address", 4)


def test_a_coordinator_under_another_name(tmp_path: Path) -> None:
    """The certificate is of the league's authority, but not for the address that was asked."""
    kits = make_kits(
        tmp_path / "kits", make_plan(("bergen",), listen="127.0.0.2", addresses=("league.example.org",))
    )
    (kits / "coordinator" / "logs").mkdir()
    child = start_front(kits / "coordinator", "127.0.0.1:1", "guard", kits / "coordinator" / "logs")
    assert child is not None
    kit = kits / "sites" / "bergen"
    told = json.loads((kit / "site.json").read_text())
    (kit / "site.json").write_text(
        json.dumps({**told, "coordinator": f"127.0.0.2:{told['coordinator'].split(':')[1]}"})
    )
    try:
        _require(_up(kit, tmp_path), "IP address mismatch", "check the address", 4)
    finally:
        stop([child])


def test_a_coordinator_whose_own_certificate_has_expired(tmp_path: Path) -> None:
    kits = make_kits(tmp_path / "kits", make_plan(("bergen",)))
    coordinator, authority = kits / "coordinator", Authority.read(kits / "authority")
    expired, key = dataclasses.replace(authority, leaf_days=0).issue_server(["127.0.0.1"])
    (coordinator / "server.crt").write_bytes(expired)
    (coordinator / "private" / "server.key").write_bytes(key)
    (coordinator / "logs").mkdir()
    child = start_front(coordinator, "127.0.0.1:1", "guard", coordinator / "logs")
    assert child is not None
    try:
        done = _up(kits / "sites" / "bergen", tmp_path)
        _require(done, "the coordinator's certificate isn't valid now", "--renew coordinator", 4)
    finally:
        stop([child])


@pytest.mark.parametrize("shift_s", [-600, 600])
def test_a_clock_ten_minutes_off(guarded: Path, tmp_path: Path, shift_s: int) -> None:
    kit = _copy(guarded, "bergen", tmp_path / "kit")
    done = _up(kit, tmp_path, shift_s=shift_s)
    found = re.search(r"(\d+) s (ahead of|behind) it", done.stderr)
    assert found is not None, done.stderr[-2000:]
    assert 580 < int(found[1]) < 620
    assert (found[2] == "behind") == (shift_s < 0)
    _require(done, "the site's clock differs from the coordinator's", "set this machine's clock", 4)


def test_a_coordinator_that_is_away_is_waited_for(kits: Path, tmp_path: Path) -> None:
    kit = _copy(kits, "lubeck", tmp_path / "kit")
    (kit / "site.json").write_text(json.dumps({"name": "lubeck", "coordinator": "127.0.0.1:9"}))
    found = {each.name: each for each in look_over(Kit.read(kit))}
    assert found["coordinator"].verdict == "unknown"
    assert "keeps trying" in found["coordinator"].next_step
    child = Child.start(
        "site", ["-m", "clients.supernode.supervisor", str(kit), "--site", str(tmp_path)], tmp_path / "log"
    )
    time.sleep(8)
    assert child.runs(), child.tail(2000)
    assert stop([child], polite_s=20.0) == []


@pytest.fixture(scope="module")
def league(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A whole coordinator."""
    plan = make_plan(("bergen", "hangzhou", "lubeck"))
    root = make_kits(tmp_path_factory.mktemp("league") / "kits", plan)
    with coordinator_up(root / "coordinator"):
        yield root


def _change(root: Path, *, add: str = "", revoke: str = "") -> None:
    """What the provisioner does, and the coordinator's operator after it."""
    told = json.loads((root / "authority" / "book.json").read_text())
    port = json.loads((root / "coordinator" / "coordinator.json").read_text())["port"]
    names = [*told["members"], *([add] if add else [])]
    plan = make_plan(names)
    plan = plan.model_copy(
        update={"coordinator": plan.coordinator.model_copy(update={"port": port}),
                "site": tuple(Party(name=name) for name in names)}
    )  # fmt: skip
    provision(plan, root, revoke=[revoke] if revoke else [])


def _site(kit: Path, folder: Path) -> Child:
    child = Child.start(
        "site",
        ["-m", "clients.supernode.supervisor", str(kit), "--site", str(folder)],
        kit / "logs" / "site.log",
    )
    ends = time.monotonic() + 90
    node = kit / "logs" / "node.log"
    while not (node.exists() and "SuperNode ID" in node.read_text()):
        assert child.runs(), child.tail(3000)
        assert time.monotonic() < ends, child.tail(3000)
        time.sleep(0.2)
    return child


def test_the_same_site_twice(league: Path, tmp_path: Path) -> None:
    """On one machine at once; from a copy elsewhere once the first has been heard of."""
    kit = _copy(league, "bergen", tmp_path / "kit")
    first = _site(kit, tmp_path)
    try:
        _require(_up(kit, tmp_path), "runs already", "stop it first", 6)
        copy = _copy(league, "bergen", tmp_path / "copy")
        _require(
            _up(copy, tmp_path, limit_s=180), "another process speaks for this site", "stop the other one", 4
        )
        assert first.runs(), first.tail()
    finally:
        assert stop([first], polite_s=30.0) == []


def test_the_same_coordinator_twice(league: Path) -> None:
    """The second one is told who runs; the first one is left as it was, with its sites."""
    told = json.loads((league / "coordinator" / "private" / ADDRESS).read_text())
    done = subprocess.run(
        [sys.executable, "-m", "server.superlink.supervisor", str(league / "coordinator")],
        capture_output=True, text=True,
        timeout=60, check=False, cwd=PROJECT,
    )  # fmt: skip
    _require(done, f"runs already (coordinator): process {told['pid']} holds it", "stop it first", 6)
    assert Post(league / "coordinator").is_up()
    assert json.loads((league / "coordinator" / "private" / ADDRESS).read_text()) == told


@pytest.mark.parametrize("stolen", ["certificate", "node key"])
def test_half_of_anothers_keys(league: Path, tmp_path: Path, stolen: str) -> None:
    """Certificate and node key count as a pair; a site with one of each is told so and stops."""
    kit, other = _copy(league, "bergen", tmp_path / "kit"), league / "sites" / "hangzhou"
    names = ("client.crt", "private/client.key") if stolen == "certificate" else ("private/node.key",)
    for name in names:
        shutil.copy(other / name, kit / name)
    _require(_up(kit, tmp_path), "isn't the one that the contract pairs", "one and the same kit", 4)


def test_a_member_more_and_an_old_contract(league: Path, tmp_path: Path) -> None:
    """Who holds an edition without the new member's keys is told so, takes the new one, and is let in."""
    kit = _copy(league, "lubeck", tmp_path / "kit")
    _change(league, add="visby")
    _require(_up(kit, tmp_path), "edition 1, and at least 2 is needed", "contract.json", 4)
    assert accept_contract(kit, league / FILE).told == ("New site: visby",)
    assert (kit / SIGNATURE).read_bytes() == (league / SIGNATURE).read_bytes()
    both = [_site(kit, tmp_path), _site(_copy(league, "visby", tmp_path / "visby"), tmp_path)]
    assert stop(both, polite_s=30.0) == []


def test_a_revoked_site_is_out_at_once(league: Path, tmp_path: Path) -> None:
    kit = _copy(league, "hangzhou", tmp_path / "kit")
    child = _site(kit, tmp_path)
    try:
        _change(league, revoke="hangzhou")
        ends = time.monotonic() + 60
        while child.runs() and time.monotonic() < ends:
            time.sleep(0.2)
        assert not child.runs(), child.tail(2000)
    finally:
        stop([child])
    told = child.tail(3000)
    assert "doesn't know the site's certificate" in told or "was revoked" in told
    assert "Next: " in told
    time.sleep(3)  # the guard is started again with the new list
    _require(_up(kit, tmp_path), "certificate was revoked", "ask who provisions the league", 4)

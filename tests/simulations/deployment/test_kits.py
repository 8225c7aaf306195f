"""Kits: who gets what, and what changes when a site comes, is renewed or goes."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
import subprocess
import tarfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from cryptography import x509

from clients.supernode.checks import look_over
from clients.supernode.kit import Kit
from clients.supernode.membership import accept_contract, leave_league, make_request, read_status, set_pause
from common.errors import ConfigError, InputError, MachineError, RunError
from common.privacy.receipts import LedgerHead, read_receipt
from common.provision.code import installed_code
from common.provision.contract import FILE, SIGNATURE, read_signed
from common.provision.site_keys import write_keys
from server.run.receipts import Receipts
from server.superlink.front import nginx_config, nginx_program
from server.superlink.processes import CoordinatorKit
from simulations.deployment.archive import check_sums, open_kit
from simulations.deployment.commands.provision import EXAMPLE
from simulations.deployment.kits import provision
from simulations.deployment.plan import LeaguePlan, read_plan

TEXT = """name = "north"
[coordinator]
addresses = ["league.example.org", "127.0.0.1"]
port = 19443
listen = "127.0.0.1"
[contract]
least_protection = "he"
[rounds]
protection = "he+masked"
"""


def _plan(folder: Path, *names: str, more: str = "", requests: bool = False, text: str = TEXT) -> LeaguePlan:
    sites = ""
    for name in names:
        sites += f'[[site]]\nname = "{name}"\n'
        if requests:
            sites += f'request = "{name}.json"\n'
    path = folder / "league.toml"
    path.write_text(text + more + sites)
    return read_plan(path)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Requests of four sites, made once: RSA keys take a while."""
    folder = tmp_path_factory.mktemp("requests")
    for name in ("a", "b", "c"):
        (folder / f"{name}.json").write_text(json.dumps(asdict(write_keys(folder / name, name))))
    return folder


@pytest.fixture
def made(requests: Path, tmp_path: Path) -> SimpleNamespace:
    """A league of two sites that made their own keys."""
    for path in requests.glob("*.json"):
        shutil.copy(path, tmp_path)
    root = tmp_path / "kits"
    done = provision(_plan(tmp_path, "a", "b", requests=True), root)
    return SimpleNamespace(folder=tmp_path, root=root, done=done, keys=requests)


def _joined(made: SimpleNamespace, name: str) -> Path:
    """A site's kit on the site's own machine."""
    kit = made.folder / f"at-{name}"
    shutil.copytree(made.keys / name, kit / "private")
    (kit / "private").chmod(0o700)
    open_kit(made.root / f"{name}.kit.tar.gz", kit, made.done.authority[:16])
    return kit


def _all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keys_that_a_site_made_are_nowhere_else(made: SimpleNamespace) -> None:
    for name in ("a", "b"):
        assert not (made.root / "sites" / name / "private").exists()
        secret = json.loads((made.keys / name / "keys.json").read_text())["ed25519"].encode()
        assert not [path for path, data in _all(made.root).items() if secret in data]


def test_a_kit_whose_keys_are_made_here_has_them_alone(tmp_path: Path) -> None:
    done = provision(_plan(tmp_path, "solo"), tmp_path / "kits")
    private = tmp_path / "kits" / "sites" / "solo" / "private"
    assert {path.name for path in private.iterdir()} == {"client.key", "keys.json", "node.key"}
    for path in private.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        line = path.read_bytes().splitlines()[2]
        assert [name for name, data in _all(tmp_path / "kits").items() if line in data] == [
            f"sites/solo/private/{path.name}"
        ]
    ca = (tmp_path / "kits" / "authority" / "ca.key").read_bytes().splitlines()[2]
    assert [name for name, data in _all(tmp_path / "kits").items() if ca in data] == ["authority/ca.key"]
    kit = tmp_path / "kit"
    assert open_kit(done.archives[1], kit, "") == done.authority
    verdicts = {each.name: each.verdict for each in look_over(Kit.read(kit))}
    assert verdicts.pop("coordinator") == "unknown"
    assert set(verdicts.values()) == {"ok"}
    assert leave_league(kit) == ["private/keys.json", "private/node.key", "private/client.key"]
    assert not [path for path in (kit / "private").glob("*") if path.suffix in (".key", ".json")]
    with pytest.raises(RunError):
        Kit.read(kit)


def test_the_coordinators_receipts_have_one_signer_which_every_kit_names(made: SimpleNamespace) -> None:
    receipts = made.root / "coordinator" / "private" / "receipts"
    assert stat.S_IMODE((receipts / "receipts.key").stat().st_mode) == 0o600
    opened = made.folder / "at-coordinator"
    open_kit(made.root / "coordinator.kit.tar.gz", opened, made.done.authority[:16])
    kept = Receipts(opened / "private" / "receipts")
    kept.note({"a": LedgerHead("a" * 32, 3, "b" * 64)})
    _, by = read_receipt(kept.of("a"), "a")
    for name in ("a", "b"):
        assert read_signed(_joined(made, name)).receipts == by
        assert not list((made.root / "sites" / name).rglob("receipts*"))
    again = provision(_plan(made.folder, "a", "b", "c", requests=True), made.root, renew=["coordinator"])
    assert (
        read_signed(again.folder / "coordinator").receipts == by
    )  # a new member, a new certificate: the same signer


def test_again_changes_nothing(made: SimpleNamespace) -> None:
    before = _all(made.root)
    done = provision(_plan(made.folder, "a", "b", requests=True), made.root)
    after = _all(made.root)
    assert (done.edition, done.added, done.archives) == (1, (), ())
    assert {name for name in after if after[name] != before.get(name)} <= {"coordinator/revoked.crl", "contract.sig",
            "coordinator/contract.sig", "sites/a/contract.sig", "sites/b/contract.sig"}  # fmt: skip


def test_adding_a_site_gives_the_others_nothing_but_the_contract(made: SimpleNamespace) -> None:
    kit, before = _joined(made, "a"), _all(made.root)
    done = provision(_plan(made.folder, "a", "b", "c", requests=True), made.root)
    assert (done.edition, done.added, [path.name for path in done.archives]) == (2, ("c",), ["c.kit.tar.gz"])
    after = _all(made.root)
    changed = {name for name in before if after[name] != before[name]}
    assert {name.split("/")[-1] for name in changed} == {FILE, SIGNATURE, "book.json", "revoked.crl"}
    contract = read_signed(made.root / "coordinator")
    assert contract.least_edition == 2  # who lacks c's keys can't take part
    changes = accept_contract(kit, made.root / FILE)
    assert changes.told == ("New site: c",)
    assert Kit.read(kit).contract() == contract


def test_revoking_a_site_leaves_the_others_alone(made: SimpleNamespace) -> None:
    kit = _joined(made, "a")
    serial = x509.load_pem_x509_certificate(
        (made.root / "sites" / "b" / "client.crt").read_bytes()
    ).serial_number
    done = provision(_plan(made.folder, "a", "b", requests=True), made.root, revoke=["b"])
    assert (done.sites, done.revoked, done.archives) == (("a",), ("b",), ())
    revoked = x509.load_pem_x509_crl((made.root / "coordinator" / "revoked.crl").read_bytes())
    assert [each.serial_number for each in revoked] == [serial]
    contract = read_signed(made.root / "coordinator")
    assert [each.name for each in contract.members] == ["a"]
    assert (contract.edition, contract.least_edition) == (2, 1)  # a's old contract still serves
    assert accept_contract(kit, made.root / FILE).told == ("No more in the league: b",)
    with pytest.raises(RunError, match="no site 'b'"):
        provision(_plan(made.folder, "a", "b", requests=True), made.root, renew=["b"])
    assert provision(_plan(made.folder, "a", "b", requests=True), made.root).added == ()


def test_renewing_keeps_keys_and_both_certificates(made: SimpleNamespace) -> None:
    before = read_signed(made.root / "coordinator").member("a")
    done = provision(_plan(made.folder, "a", "b", requests=True), made.root, renew=["a", "coordinator"])
    assert (done.renewed, [path.name for path in done.archives]) == (
        ("a",), ["coordinator.kit.tar.gz", "a.kit.tar.gz"],
    )  # fmt: skip
    after = read_signed(made.root / "coordinator").member("a")
    assert (after.former, after.public_keys(), after.node_key) == (
        before.certificate, before.public_keys(), before.node_key,
    )  # fmt: skip
    assert after.certificate != before.certificate


def test_what_cant_be_meant_is_refused(made: SimpleNamespace) -> None:
    with pytest.raises(RunError, match="'b' is in the league, but not in the file"):
        provision(_plan(made.folder, "a", requests=True), made.root)
    shutil.copy(made.folder / "c.json", made.folder / "a.json")
    with pytest.raises(RunError, match="request is of 'c'"):
        provision(_plan(made.folder, "a", "b", requests=True), made.root, renew=["a"])
    with pytest.raises(RunError, match="no site"):
        provision(_plan(made.folder, "a", "b", requests=True), made.root, revoke=["a", "b", "z"])


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "coordinator"), ('[coordinator]\naddresses = ["x"]\n', "site"),
        ('[coordinator]\naddresses = ["x"]\n[[site]]\nname = "A b"\n', "site.0.name"),
        ('[coordinator]\naddresses = ["x"]\n[[site]]\nname = "a"\n[[site]]\nname = "a"\n', "same name"),
        (
            '[coordinator]\naddresses = ["x"]\n[[site]]\nname = "a"\n[rounds]\nprotection = "plain"\n'
            '[contract]\nleast_protection = "he"\n',
            "promised",
        ),
        ('[coordinator]\naddresses = ["x"]\n[[site]]\nname = "a"\n[rouns]\ncount = 1\n', "rouns"),
        ('[coordinator]\naddresses = ["x"]\n[[site]]\nname = "a"\n[contract]\nuntil = "soon"\n', "until"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "league.toml").write_text(text)
    with pytest.raises(ConfigError, match=word):
        read_plan(tmp_path / "league.toml")


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    (tmp_path / "league.toml").write_text(EXAMPLE)
    plan = read_plan(tmp_path / "league.toml")
    assert [each.name for each in plan.site] == ["lubeck", "hangzhou"]
    assert plan.settings.rounds.protection == "he+masked"


def test_a_kit_that_isnt_whole_is_not_unpacked(made: SimpleNamespace) -> None:
    archive = made.root / "a.kit.tar.gz"
    data, into = archive.read_bytes(), made.folder / "x"
    with pytest.raises(RunError, match="another authority"):
        open_kit(archive, into, "0" * 64)
    with pytest.raises(RunError, match="another authority"):
        open_kit(archive, into, made.done.authority[:8])  # too short to mean anything
    for broken in (data[:-20], b"no archive", data[:200] + b"\x00" + data[201:]):
        archive.write_bytes(broken)
        with pytest.raises(RunError):
            open_kit(archive, into, made.done.authority)
    archive.write_bytes(data)
    (made.root / "a.kit.tar.gz.sig").write_text("00")
    with pytest.raises(RunError, match="didn't sign"):
        open_kit(archive, into, made.done.authority)
    assert not into.exists()


@pytest.mark.parametrize(
    ("name", "kind", "leads"),
    [
        ("../outside", tarfile.REGTYPE, ""),
        ("/tmp/hansa-outside", tarfile.REGTYPE, ""),  # noqa: S108 — never written
        ("site.json", tarfile.SYMTYPE, "../outside"),
        ("site.json", tarfile.LNKTYPE, "../outside"),
        ("site.json", tarfile.FIFOTYPE, ""),
        ("folder", tarfile.DIRTYPE, ""),
    ],
)
def test_an_archive_of_anything_but_files_of_the_kit_is_refused(
    name: str, kind: bytes, leads: str, tmp_path: Path
) -> None:
    archive, entry = tmp_path / "a.kit.tar.gz", tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, leads, 4 if kind == tarfile.REGTYPE else 0
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(RunError, match="can't be read"):
        open_kit(archive, tmp_path / "kit", "")
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]
    assert not Path("/tmp/hansa-outside").exists()  # noqa: S108


def test_checksums_are_those_of_sha256sum(made: SimpleNamespace) -> None:
    kit = _joined(made, "a")
    text = (kit / "SHA256SUMS").read_text()
    for line in text.splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((kit / name).read_bytes()).hexdigest() == digest
    assert "private" not in text
    archive = made.root / "a.kit.tar.gz"
    assert (made.root / "a.kit.tar.gz.sha256").read_text() == (
        f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  a.kit.tar.gz\n"
    )
    shutil.rmtree(kit / "private")
    (kit / "GUIDE.md").write_text("other")
    with pytest.raises(RunError, match="isn't whole"):
        check_sums(kit)


def test_a_worse_foreign_or_older_contract_isnt_accepted(made: SimpleNamespace) -> None:
    kit = _joined(made, "a")
    old = made.folder / "old"
    old.mkdir()
    for name in (FILE, SIGNATURE):
        shutil.copy(made.root / name, old / name)
    weaker = _plan(
        made.folder,
        "a",
        "b",
        requests=True,
        text=TEXT.replace('"he+masked"', '"plain"').replace('"he"', '"plain"'),
    )
    provision(weaker, made.root)
    with pytest.raises(RunError, match="what the one before promised"):
        accept_contract(kit, made.root / FILE)
    provision(_plan(made.folder, "a", "b", more="count = 7\n", requests=True), made.root)
    assert "rounds.count: 12 → 7" in accept_contract(kit, made.root / FILE).told
    with pytest.raises(RunError, match="older"):
        accept_contract(kit, old / FILE)
    other = made.folder / "other"
    provision(_plan(made.folder, "a", "b", requests=True), other)
    with pytest.raises(RunError, match="didn't sign"):
        accept_contract(kit, other / FILE)


def test_kits_of_earlier_code_are_refused_until_the_next_edition_is_taken(
    made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit, plan = _joined(made, "a"), _plan(made.folder, "a", "b", requests=True)
    coordinator = CoordinatorKit(made.root / "coordinator")
    with monkeypatch.context() as earlier:
        code = {**installed_code(), "clients/app.py": b"# of an earlier release"}
        earlier.setattr("simulations.deployment.kits.installed_code", lambda: code)
        provision(plan, made.root)
    accept_contract(kit, made.root / FILE)
    with pytest.raises(RunError, match="isn't the one that the contract names") as fault:
        coordinator.contract()
    [check] = [check for check in look_over(Kit.read(kit)) if check.name == "code"]
    assert check.verdict == "fault"
    for told in (fault.value.next_step, check.next_step):
        assert "hansa provision" in told
        assert "hansa site accept" in told
    assert provision(plan, made.root).edition == 3
    assert "code" in " ".join(accept_contract(kit, made.root / FILE).told)
    assert coordinator.contract().edition == 3
    assert {check.verdict for check in look_over(Kit.read(kit)) if check.name == "code"} == {"ok"}


def test_a_site_asks_once_and_by_a_name(tmp_path: Path) -> None:
    path = make_request("lubeck", tmp_path / "kit")
    assert path.name == "lubeck.request.json"
    assert stat.S_IMODE((tmp_path / "kit" / "private").stat().st_mode) == 0o700
    with pytest.raises(RunError, match="already"):
        make_request("lubeck", tmp_path / "kit")
    with pytest.raises(InputError):
        make_request("Lübeck!", tmp_path / "other")


def test_status_and_pause(made: SimpleNamespace) -> None:
    kit = _joined(made, "a")
    set_pause(kit, True)
    found = read_status(kit)
    assert (found.site, found.up, found.paused, found.contract_edition, found.last_answer) == (
        "a", False, True, 1, "none yet",
    )  # fmt: skip
    set_pause(kit, False)
    assert not read_status(kit).paused


@pytest.mark.parametrize("name", ["keys.json", "client.key"])
def test_the_doctor_sees_keys_of_another_kit(made: SimpleNamespace, name: str) -> None:
    kit = _joined(made, "a")
    (kit / "private" / name).write_bytes((made.keys / "b" / name).read_bytes())
    faults = [each for each in look_over(Kit.read(kit)) if each.verdict == "fault"]
    assert [each.name for each in faults] == ["private keys" if name == "keys.json" else "certificate"]
    assert faults[0].next_step


def test_the_doctor_sees_keys_that_others_may_read(made: SimpleNamespace) -> None:
    kit = _joined(made, "a")
    (kit / "private" / "node.key").chmod(0o640)
    assert {each.name for each in look_over(Kit.read(kit)) if each.verdict == "fault"} == {"private keys"}


def test_scripts_and_compose_files_are_sound(made: SimpleNamespace) -> None:
    for kit in (made.root / "coordinator", made.root / "sites" / "a"):
        assert subprocess.run(["sh", "-n", str(kit / "start.sh")], check=False).returncode == 0
        assert (kit / "start.sh").stat().st_mode & 0o100
        services = yaml.safe_load((kit / "compose.yaml").read_text())["services"]
        service = next(iter(services.values()))
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert "${" not in "".join(service["command"])
        unit = next(kit.glob("*.service")).read_text()
        assert "NoNewPrivileges=yes" in unit
        for page in ("GUIDE.md", "GUIDE.zh.md"):
            assert "{{" not in (kit / page).read_text()
            assert "league.example.org:19443" in (kit / page).read_text()
        if shutil.which("systemd-analyze"):
            done = subprocess.run(
                ["systemd-analyze", "verify", "--user", str(next(kit.glob("*.service")))],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert "Unknown" not in done.stderr


def test_nginx_accepts_its_configuration(made: SimpleNamespace) -> None:
    kit = made.root / "coordinator"
    try:
        program = nginx_program()
    except MachineError as fault:
        pytest.skip(str(fault))
    (kit / "logs").mkdir()
    path = made.folder / "nginx.conf"
    path.write_text(nginx_config(kit, "127.0.0.1:19092"))
    done = subprocess.run([program, "-t", "-c", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

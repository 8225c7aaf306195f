"""The kits' guides followed to the letter, in fresh folders, by people who know no more: each command, in order."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from common.provision.contract import FILE, SIGNATURE
from common.runtime.processes import free_port
from common.storage.run_folder import SiteEntry
from simulations.bazaar import BazaarConfig, write_league
from simulations.setup.create import shared_categories
from tests.conftest import TINY_TRAINING
from tests.deployment.support.guides import Desk, Done, block_of, commands_of
from tests.deployment.support.leagues import wait_until
from tests.deployment.support.places import make_kits, make_plan

pytestmark = pytest.mark.slow
_WORD = "correct-horse-battery"


@contextlib.contextmanager
def _desks(folder: Path, *names: str) -> Iterator[list[Desk]]:
    with contextlib.ExitStack() as stack:
        found = [Desk(folder / name) for name in names]
        for each in reversed(found):
            stack.callback(each.close)
        yield found


def _well(done: Done) -> Done:
    assert done.code == 0, (done.command, done.code, done.told[-3000:])
    return done


def _league_file(path: Path, port: int, data: list[Path]) -> None:
    """The provisioner's wish: a member that makes its own keys, and one that gets them."""
    entries = [SiteEntry(each.name, each.name, str(each)) for each in data]
    training = "".join(f"{key.removeprefix('training.')} = {value}\n" for key, value in TINY_TRAINING.items())
    path.write_text(
        f'name = "north-sea"\n[coordinator]\naddresses = ["127.0.0.1"]\nport = {port}\nlisten = "127.0.0.1"\n'
        '[contract]\nuntil = "2099-12-31"\nleast_protection = "he+masked"\n'
        '[[site]]\nname = "lubeck"\n[[site]]\nname = "hangzhou"\nlanguage = "zh"\nrequest = "hangzhou.request.json"\n'
        f"[model]\ncategories = {json.dumps(list(shared_categories(entries)))}\nfrozen_image_size = 32\n"
        f"[training]\n{training}[rounds]\ncount = 2\ncolluding_sites = 0\n",
        encoding="utf-8",
    )


def _hand_over(kits: Path, to: Desk) -> Path:
    """Archive, checksum, signature and guides, as a messenger would bring them."""
    for path in kits.glob(f"{to.folder.name}.*"):
        shutil.copy(path, to.folder)
    return to.folder


def _prepare(desk: Desk, guide: Path, words: dict[str, str], *, sealed: bool) -> list[str]:
    """Follow a site's guide up to its start, with a vault or without; returns the commands that are left."""
    raw = {**words, "FOLDER": "raw", "文件夹": "raw"}
    steps = [each for each in commands_of(guide, raw) if each != "hansa site request"]
    assert [each.split(" --")[0] for each in steps] == [
        "cd hansa && make setup && export PATH=$PWD/.venv/bin:$PATH && cd ..",
        f"sha256sum -c {desk.folder.name}.kit.tar.gz.sha256",
        f"hansa site join {desk.folder.name}.kit.tar.gz", "hansa site doctor kit", "hansa quality raw",
        "hansa vault init vault", "hansa ingest raw", "hansa site doctor kit", "hansa site up kit",
        "hansa site status kit", "hansa site pause kit", "hansa site pause kit",
        "hansa site accept kit contract.json", "hansa site leave kit",
    ]  # fmt: skip
    for step in steps[:4]:
        _well(desk.type(step))
    judged = desk.type(steps[4])
    assert judged.code in (0, 1), judged.told[-2000:]
    assert (desk.folder / "quality" / "quality.html").exists()
    if sealed:
        _well(desk.type(steps[5], [_WORD] * 8))
        _well(desk.type(steps[6], [_WORD]))
        _well(
            desk.type(f"rm -r raw && mv vault/keys/owner.key .. && (umask 077; echo {_WORD} > trainer.pass)")
        )
        (desk.folder / "shop").mkdir()
        (desk.folder / "shop" / "site.toml").write_text(block_of(guide), encoding="utf-8")
    return [each.replace("--site raw", "--site shop") if sealed else each for each in steps[7:]]


def _start(desk: Desk, steps: list[str]) -> subprocess.Popen[bytes]:
    looked = _well(desk.type(steps[0])).told
    assert "fault" not in looked, looked
    process = desk.leave_running(steps[1])
    wait_until("the site", lambda: "the site is up" in desk.log(), seconds=90)
    return process


def _look_at_dashboard(desk: Desk, command: str) -> None:
    desk.leave_running(f"{command} --port 0")
    shown = re.compile(r"(http://127\.0\.0\.1:\d+/)metrics is for Prometheus")
    wait_until("the dashboard", lambda: shown.search(desk.log()), seconds=60)
    found = shown.search(desk.log())
    assert found is not None
    assert "hansa_" in httpx.get(f"{found[1]}metrics", timeout=20, trust_env=False).text


def _hand_out_an_edition(authority: Desk, command: str, to: Desk) -> None:
    """As the coordinator's guide says: one more `[[site]]`, the same command, two files to a member."""
    plan = authority.folder / "league.toml"
    if "visby" not in plan.read_text():
        plan.write_text(plan.read_text().replace("[model]", '[[site]]\nname = "visby"\n[model]', 1))
    _well(authority.type(command))
    for name in (FILE, SIGNATURE):
        shutil.copy(authority.folder / "kits" / name, to.folder)


def _take_up(authority: Desk, coordinator: Desk) -> None:
    """Three files to the coordinator, which goes over to them."""
    kits = authority.folder / "kits"
    for path in (kits / FILE, kits / SIGNATURE, kits / "coordinator" / "revoked.crl"):
        shutil.copy(path, coordinator.folder / "kit" / path.name)
    wait_until("the coordinator's new edition", lambda: "edition 2 now" in coordinator.log(), seconds=20)


def _start_again(desk: Desk, command: str, what: str) -> None:
    """As the kit's unit for systemd does."""
    before = desk.log().count(what)
    desk.leave_running(command)
    wait_until(f"{command}: {what}", lambda: desk.log().count(what) > before, seconds=90)


def test_three_people_follow_their_guides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator by the English one, 杭州 by the Chinese one with keys of its own, Lübeck with a vault."""
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "cache"))
    shape = BazaarConfig(n_sites=2, held_out=0, users_per_site=30, items_per_site=30)
    data = {each.name: each for each in write_league(tmp_path / "data", shape)}
    with _desks(tmp_path, "authority", "coordinator", "lubeck", "hangzhou") as desks:
        authority, coordinator, lubeck, hangzhou = desks
        for desk in (authority, hangzhou):
            _well(desk.type("export PATH=$PWD/hansa/.venv/bin:$PATH"))
        _well(hangzhou.type("hansa site request hangzhou --kit kit"))
        shutil.copy(hangzhou.folder / "kit" / "hangzhou.request.json", authority.folder)
        _league_file(authority.folder / "league.toml", free_port(), list(data.values()))
        told = _well(authority.type("hansa provision league.toml --out kits")).told
        (fingerprint,) = re.findall(r"Authority: ([0-9a-f]{64})", told)
        words = {"FINGERPRINT": fingerprint[:16], "指纹": fingerprint[:16]}
        for desk in (lubeck, hangzhou):
            shutil.copytree(data[desk.folder.name], desk.folder / "raw")

        papers = {
            desk: _hand_over(authority.folder / "kits", desk) for desk in (coordinator, lubeck, hangzhou)
        }
        steps = commands_of(papers[coordinator] / "coordinator.GUIDE.md", words)
        for step in steps[:2]:
            _well(coordinator.type(step))
        up = coordinator.leave_running(steps[2])
        wait_until("the coordinator", lambda: "the coordinator is up" in coordinator.log(), seconds=90)

        later = _prepare(hangzhou, papers[hangzhou] / "hangzhou.GUIDE.zh.md", words, sealed=False)
        other = _prepare(lubeck, papers[lubeck] / "lubeck.GUIDE.md", words, sealed=True)
        site, sealed = _start(hangzhou, later), _start(lubeck, other)
        assert "Model: " in _well(coordinator.type(steps[3])).told
        assert "released" in _well(coordinator.type(steps[4])).told
        _look_at_dashboard(coordinator, steps[5])
        assert [up.poll(), site.poll(), sealed.poll()] == [None] * 3
        assert list((lubeck.folder / "vault" / "features").iterdir())

        status, pause, go_on, accept, leave = later[2:]
        assert "answered" in _well(hangzhou.type(status)).told
        _well(hangzhou.type(pause))
        _well(hangzhou.type(go_on))
        _hand_out_an_edition(authority, steps[6], hangzhou)
        assert "New site: visby" in _well(hangzhou.type(accept)).told
        _take_up(authority, coordinator)
        assert sealed.wait(timeout=60) == 4, "a site that didn't accept goes on under the old edition"
        assert "get the new contract.json" in lubeck.log()
        _hand_out_an_edition(authority, steps[6], lubeck)
        _well(lubeck.type(other[5]))
        wait_until(
            "the site's new edition", lambda: "accepted meanwhile is taken" in hangzhou.log(), seconds=60
        )
        assert site.poll() is None
        _well(hangzhou.type(leave, ["y"]))
        assert site.wait(timeout=60) == 0
        assert not list((hangzhou.folder / "kit" / "private").glob("*.key"))
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=60) == 0
        _start_again(coordinator, "kit/start.sh", "the coordinator is up")
        _start_again(lubeck, "kit/start.sh shop", "the site is up")


def test_the_chinese_guides_have_the_commands_of_the_english_ones(tmp_path: Path) -> None:
    """Whoever reads the other language types the same."""
    kits = make_kits(tmp_path / "kits", make_plan(("bergen",)))
    for name in ("bergen", "coordinator"):
        english = commands_of(kits / f"{name}.GUIDE.md", {})
        chinese = commands_of(kits / f"{name}.GUIDE.zh.md", {"指纹": "FINGERPRINT", "文件夹": "FOLDER"})
        assert english == chinese

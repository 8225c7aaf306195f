"""`hansa budget`: of a site, of a run, and what it says where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.ledger import Charge, open_ledger
from clients.ledger.rounds import price_of_round
from common.files import append_line
from common.privacy.accounting import Mechanism, epsilon_rdp
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.cli import main

CONFIG = load_config({"privacy": {"mode": "user", "epsilon": 3.0}, "rounds": {"count": 5}})


def _ask(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert main([*arguments, "--format", "json"]) == code
    return dict(json.loads(capfd.readouterr().out))


def _site(folder: Path, policy: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(f'name = "{folder.name}"\n[policy]\n{policy}')
    return folder


def test_a_site_without_entries_has_spent_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = _ask(capfd, "budget", str(_site(tmp_path / "amber")))
    assert (found["spent"], found["left"], found["budget"]) == (0, 8, 8)
    assert "one user" in found["unit"]
    assert found["next_round"] is None
    assert not (tmp_path / "amber" / "ledger").exists()  # looking changes nothing


def test_a_site_tells_spent_left_unit_purposes_and_the_next_round(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = _site(tmp_path / "amber", "epsilon = 2.0\nperiod_days = 30\n")
    noise = Mechanism.gaussian(10.0)
    with open_ledger(site, None) as ledger:
        for round_ in (1, 2):
            ledger.debit(Charge("training", noise, run="r" * 64, league="north", round=round_))
        ledger.debit(Charge("statistics", Mechanism.pure(0.1), name="top items"))
    found = _ask(capfd, "budget", str(site))
    spent = epsilon_rdp([noise, noise, Mechanism.pure(0.1)], 1e-5)
    assert found["spent"] == pytest.approx(spent)
    assert found["left"] == pytest.approx(2.0 - spent)
    assert found["spent_pld"] <= found["spent"]
    assert found["period"] == "any 30 days"
    assert found["purposes"]["training"]["answers"] == 2
    assert found["purposes"]["statistics"]["epsilon_alone"] == pytest.approx(0.1, abs=0.01)
    assert [(run["league"], run["rounds"]) for run in found["runs"]] == [("north", [1, 2]), ("", [])]
    assert found["next_round"]["rounds_left"] > 5
    assert 0 < found["next_round"]["epsilon"] < spent
    assert main(["budget", str(site)]) == 0
    assert "statistics, 1 answers" in capfd.readouterr().out


def _run(root: Path, *policies: str) -> RunFolder:
    sites = [_site(root / f"site{number}", policy) for number, policy in enumerate(policies)]
    folder = RunFolder(root / "run")
    folder.create(CONFIG, [SiteEntry(site.name, site.name, str(site)) for site in sites])
    return folder


def test_a_run_tells_each_site_and_the_worst(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    each = price_of_round(CONFIG, 1)
    tight = epsilon_rdp([each.mechanism] * 2, 1e-5) + 0.01
    folder = _run(tmp_path, "epsilon = 9.0\n", f"epsilon = {tight}\n", 'ledger = "run"\n')
    for site in folder.sites():
        with open_ledger(Path(site.folder), folder.site_out(site.name) / "private") as ledger:
            ledger.debit(price_of_round(CONFIG, 1))
    append_line(folder.rounds_file, {"round": 3, "quarantined": [
        {"site": "site1", "reason": "the site reported an error: PrivacyError: the site's privacy budget is spent"},
        {"site": "site0", "reason": "no reply before the deadline"},
    ]})  # fmt: skip
    found = _ask(capfd, "budget", str(folder.root))
    one = epsilon_rdp([each.mechanism], 1e-5)
    assert found["spent"] == pytest.approx(one)
    assert found["left"] == pytest.approx(tight - one)
    assert found["stopped"] == {"site1": 3}
    by_name = {site["site"]: site["next_round"] for site in found["sites"]}
    assert by_name["site1"]["rounds_left"] == 1
    assert by_name["site1"]["ends_after_round"] == 2
    assert by_name["site0"]["ends_after_round"] is None
    assert by_name["site2"]["rounds_left"] is None
    assert main(["budget", str(folder.root)]) == 0
    told = capfd.readouterr().out
    assert "site1 left the run at round 3" in told
    assert "site1: the budget ends after round 2" in told


def test_verify_computes_anew_and_names_what_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = _run(tmp_path, "epsilon = 9.0\n")
    site = tmp_path / "site0"
    with open_ledger(site, None) as ledger:
        ledger.debit(price_of_round(CONFIG, 1))
    found = _ask(capfd, "budget", "verify", str(folder.root))
    assert found["ok"] is True
    assert found["sites"][0]["debits"] == 1
    assert found["sites"][0]["epsilon_pld"] <= found["sites"][0]["epsilon_rdp"]
    assert _ask(capfd, "budget", "verify", str(site))["ok"] is True
    path = site / "ledger" / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b"training", b"trainink"))
    fault = _ask(capfd, "budget", "verify", str(site), code=10)
    assert fault["error"] == "PrivacyError"
    assert "edited" in fault["what"]


def test_a_lost_ledger_is_written_off_by_its_owner_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = _site(tmp_path / "amber")
    with open_ledger(site, None) as ledger:
        ledger.debit(price_of_round(CONFIG, 1))
    (site / "ledger" / "ledger.jsonl").unlink()
    assert "missing" in _ask(capfd, "budget", str(site), code=10)["why"]
    assert "--yes" in _ask(capfd, "budget", "lost", str(site), code=2)["next_step"]
    assert _ask(capfd, "budget", "lost", str(site), "--yes")["left"] == 0
    assert _ask(capfd, "budget", str(site))["losses_declared"] == 1


def test_a_made_up_sites_ledger_is_asked_for_by_its_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fault = _ask(capfd, "budget", str(_site(tmp_path / "amber", 'ledger = "run"\n')), code=2)
    assert "hansa budget RUN" in fault["next_step"]


def test_plan_needs_no_data(capfd: pytest.CaptureFixture[str]) -> None:
    found = _ask(
        capfd, "budget", "plan", "--epsilon", "3", "--rounds", "40", "--users", "500", "--records", "3"
    )
    assert found["epsilon"] <= 3
    assert {"sigma", "clip", "expected_batch", "sample_rate", "utility_loss", "warnings", "unit"} <= set(
        found
    )
    assert main(["budget", "plan", "--epsilon", "3", "--rounds", "40", "--records", "3"]) == 0
    assert "too thin" in capfd.readouterr().out

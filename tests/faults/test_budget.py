"""A league whose sites pay from their own ledgers: one runs out in the middle, one comes back from a backup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clients.ledger import Ledger, open_ledger
from clients.ledger.rounds import price_of_round
from common.errors import QuorumError
from common.files import read_json, read_lines, write_whole
from common.privacy.accounting import epsilon_rdp
from common.privacy.stopped import stopped_sites
from common.settings.config import LeagueConfig
from server.run.receipts import Receipts
from simulations.bazaar import write_league
from simulations.bazaar.config import load_bazaar_config
from simulations.budget.look import look, verify_all
from simulations.commands.inspect import read_status
from simulations.runs.run import simulate
from simulations.setup.create import plan_config
from simulations.setup.options import Setting, SimulateOptions
from tests.conftest import TINY_BAZAAR

ROUNDS = 4
PRIVATE: dict[str, Setting] = {"privacy.mode": "user", "privacy.epsilon": 8.0, "model.image": False}


@pytest.fixture
def sites(feature_cache: Path, tmp_path: Path) -> Path:
    """Three merchants' own folders, whose ledgers lie beside their `site.toml`."""
    write_league(tmp_path / "sites", load_bazaar_config({**TINY_BAZAAR, "held_out": 0, "seed": 3}))
    for path in (tmp_path / "sites").glob("*/site.toml"):
        path.write_text(path.read_text().replace('ledger = "run"\n', ""))
    return tmp_path / "sites"


def _options(sites: Path, name: str, protection: str = "plain") -> SimulateOptions:
    overrides = {
        **PRIVATE,
        "rounds.protection": protection,
        "rounds.quorum": 0.6,
        "rounds.colluding_sites": 0,
    }
    return SimulateOptions(
        run=sites.parent / name, data="folders", path=sites, rounds=ROUNDS, seed=3, quiet=True, compare=False,
        report=True, overrides=overrides,
    )  # fmt: skip


def _cost(config: LeagueConfig, rounds: int) -> float:
    each = price_of_round(config, 1).mechanism
    return epsilon_rdp([each] * rounds, config.privacy.delta)


def _ledger(site: Path) -> Ledger:
    with open_ledger(site, None) as ledger:
        return ledger


@pytest.mark.parametrize("protection", ["plain", pytest.param("he+masked", marks=pytest.mark.slow)])
def test_a_budget_that_ends_stops_its_site_and_not_the_league(sites: Path, protection: str) -> None:
    options = _options(sites, "one", protection)
    poor, *others = sorted(path for path in sites.iterdir() if path.is_dir())
    allowed = _cost(plan_config(options), 2) + 0.01
    toml = poor / "site.toml"
    toml.write_text(toml.read_text().replace("[policy]\n", f"[policy]\nepsilon = {allowed}\n"))

    summary = simulate(options)

    lines = read_lines(options.run / "rounds.jsonl")
    assert [set(line["sites"]) == {s.name for s in [poor, *others]} for line in lines] == [
        True,
        True,
        False,
        False,
    ]
    for line in lines[2:]:
        (left_out,) = line["quarantined"]
        assert left_out["site"] == poor.name
        assert "PrivacyError: the site's privacy budget is spent" in left_out["reason"]
        assert str(round(allowed, 2)) not in left_out["reason"]  # what it has is its own affair
    assert summary.rounds == ROUNDS
    assert (options.run / "release" / "model.safetensors").exists()
    for site, rounds in ((poor, 2), *((site, ROUNDS) for site in others)):
        ledger = _ledger(site)
        book = ledger.book()
        assert [debit.charge.round for debit in book.debits] == list(range(1, rounds + 1))
        assert len(book.told) == rounds
        assert ledger.balance().spent <= ledger.budget.epsilon
        kept = read_json(options.run / "state" / "receipts" / "receipts.json")[site.name]
        assert (kept["n"], kept["hash"]) == (book.head.n, book.head.hash)

    assert stopped_sites(lines) == {poor.name: 3} == read_status(options.run)["budget_spent"]
    page = (options.run / "report.html").read_text(encoding="utf-8")
    assert "took no part from round 3 on: its own privacy budget was spent" in page
    assert "自第 3 轮起不再参与" in page
    card = (options.run / "release" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "took no part from round 3 on" in card
    found = look(options.run)
    assert found["stopped"] == {poor.name: 3}
    assert 0 <= found["left"] < 0.02
    assert verify_all(options.run)["ok"]

    # Another run, another league: the same ledgers. Nobody can pay, and it says so before anybody trains.
    with pytest.raises(QuorumError, match="privacy budget is spent"):
        simulate(_options(sites, "two", protection))


@pytest.mark.slow
def test_a_site_that_comes_back_from_a_backup_is_left_out_and_told_why(
    sites: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = _options(sites, "one")
    config = plan_config(options)
    restored, *others = sorted(path for path in sites.iterdir() if path.is_dir())
    for site in (restored, *others):
        toml = site / "site.toml"
        toml.write_text(toml.read_text().replace("[policy]\n", "[policy]\nepsilon = 100.0\n"))
    with open_ledger(restored, None) as ledger:
        ledger.debit(price_of_round(config, 1))
    shutil.copytree(restored / "ledger", sites.parent / "backup")
    simulate(options)

    # The backup comes back; the coordinator goes on in a new run, with the receipts that it kept.
    shutil.rmtree(restored / "ledger")
    shutil.copytree(sites.parent / "backup", restored / "ledger")
    again = _options(sites, "two")
    receipts = again.run / "state" / "receipts"
    shutil.copytree(options.run / "state" / "receipts", receipts)
    assert Receipts(receipts).of(restored.name)
    simulate(again)
    for line in read_lines(again.run / "rounds.jsonl"):
        (left_out,) = line["quarantined"]
        assert left_out["site"] == restored.name
        assert "older than what the coordinator has seen" in left_out["reason"]
    assert "hansa budget lost" in caplog.text  # the site's own log names the way out
    assert len(_ledger(restored).book().debits) == 1

    with open_ledger(restored, None) as ledger:
        ledger.write_off()
        assert ledger.balance().left == 0


@pytest.mark.slow
def test_a_receipt_of_another_signer_is_refused(sites: Path) -> None:
    options = _options(sites, "one")
    first, *_ = sorted(path for path in sites.iterdir() if path.is_dir())
    private = options.run / "sites" / first.name / "private"
    write_whole(private / "coordinator.pub", b"00" * 32)
    simulate(options)
    lines = read_lines(options.run / "rounds.jsonl")
    assert not lines[0]["quarantined"]  # no receipt yet
    assert "another signer" in lines[1]["quarantined"][0]["reason"]

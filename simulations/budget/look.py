"""What sites have spent and have left, from the ledgers of one site, or of all sites of a run on this machine.

Invariant: a ledger is read, never written; ε is computed from the mechanisms in its entries, not copied from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.ingest import read_site_info
from clients.ledger import PURPOSES, Book, Charge, Ledger, open_ledger
from clients.ledger.budget import UNIT
from clients.ledger.entries import COORDINATOR
from clients.ledger.place import RUN
from clients.ledger.verify import verify_ledger
from clients.vault import PassphraseSource, Vault, unlock
from common.errors import ConfigError, RunError
from common.files import read_lines
from common.privacy.stopped import stopped_sites
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder, SiteEntry
from server.run.receipts import Receipts


def look(folder: Path, key: Path | None = None, passphrase: str = "prompt") -> dict[str, Any]:  # noqa: S107
    """The budget of a site folder, or of the sites of a run folder.

    Parameters
    ----------
    key, passphrase : open the site's vault with another role than training's, such as the auditor's.

    Raises
    ------
    HansaError : it's neither, or a ledger can't be trusted.
    """
    if (folder / "config.json").exists():
        return look_at_run(folder)
    with ledger_of(folder, key, passphrase) as ledger:
        return look_at_ledger(ledger)


def verify_all(root: Path, key: Path | None = None, passphrase: str = "prompt") -> dict[str, Any]:  # noqa: S107
    """Verify the ledger of a site, or all those of a run, and compare the coordinator's receipts with them.

    Raises
    ------
    HansaError : a ledger can't be trusted; the ledgers after it aren't verified.
    """
    if not (root / "config.json").exists():
        with ledger_of(root, key, passphrase) as ledger:
            return {"ok": True, "sites": [{"site": ledger.site, **asdict(verify_ledger(ledger))}]}
    checks, folder = [], RunFolder(root)
    heads = Receipts(folder.state / "receipts").heads
    for site in _sites_here(folder):
        with open_ledger(Path(site.folder), folder.site_out(site.name) / "private") as ledger:
            if site.name in heads:
                ledger.require(heads[site.name])
            checks.append({"site": site.name, **asdict(verify_ledger(ledger)), "receipt": site.name in heads})
    return {"ok": True, "sites": checks}


@contextmanager
def ledger_of(site: Path, key: Path | None, passphrase: str) -> Iterator[Ledger]:
    """A site's ledger outside of a run."""
    info = read_site_info(site)
    if info.policy.ledger == RUN and not info.vault.path:
        raise ConfigError(
            "this site's ledger lies in each run", where=f"{site / 'site.toml'}, [policy] ledger",
            why='it says "run", which is for made-up and public data', next_step="name the run: hansa budget RUN",
        )  # fmt: skip
    vault = None
    if key is not None:
        vault = Vault.open(site / info.vault.path, unlock(key, PassphraseSource.parse(passphrase)))
    with open_ledger(site, None, vault) as ledger:
        yield ledger


def look_at_run(root: Path) -> dict[str, Any]:
    """Each site's budget, the worst of them, and who left the run because its budget was spent.

    Raises
    ------
    RunError : the run's sites keep their ledgers elsewhere.
    """
    folder, config = RunFolder(root), RunFolder(root).config()
    sites = _sites_here(folder)
    looks = []
    for site in sites:
        with open_ledger(Path(site.folder), folder.site_out(site.name) / "private") as ledger:
            looks.append(look_at_ledger(ledger, config))
    lefts = [balance["left"] for balance in looks if balance["left"] is not None]
    return {
        "run": str(root), "mode": config.privacy.mode, "run_epsilon": config.privacy.epsilon,
        "delta": config.privacy.delta, "unit": UNIT, "spent": max(balance["spent"] for balance in looks),
        "left": min(lefts) if lefts else None, "stopped": stopped_sites(read_lines(folder.rounds_file)), "sites": looks,
    }  # fmt: skip


def _sites_here(folder: RunFolder) -> list[SiteEntry]:
    sites = [site for site in folder.sites() if not site.held_out]
    if not all(site.folder and (Path(site.folder) / "site.toml").exists() for site in sites):
        raise RunError(
            "the sites of this run keep their ledgers themselves", where=str(folder.root),
            why="their folders aren't on this machine", next_step="ask each site: hansa budget SITE",
        )  # fmt: skip
    return sites


def look_at_ledger(ledger: Ledger, config: LeagueConfig | None = None) -> dict[str, Any]:
    """One ledger's balance, by purpose and by run, and what comes next."""
    book = ledger.book()
    facts: dict[str, Any] = {"site": ledger.site, "ledger": ledger.where, **asdict(ledger.balance(book))}
    counted = ledger.budget.counted(book, ledger.now(book))
    facts |= {
        "spent_pld": ledger.budget.reported(counted), "relation": "add-remove", "adversary": COORDINATOR,
        "entries": book.head.n + 1, "answers": len(book.debits), "losses_declared": len(book.lost),
        "purposes": _purposes(ledger, book), "runs": _runs(ledger, book),
        "next_round": _next_round(ledger, book, config),
    }  # fmt: skip
    return facts


def _purposes(ledger: Ledger, book: Book) -> dict[str, dict[str, float | int]]:
    """ε of each purpose alone; they compose to less than their sum."""
    parts = {p: [d.charge.for_user() for d in book.debits if d.charge.purpose == p] for p in PURPOSES}
    return {
        p: {"answers": len(part), "epsilon_alone": ledger.budget.spent(part)}
        for p, part in parts.items()
        if part
    }


def _runs(ledger: Ledger, book: Book) -> list[dict[str, Any]]:
    runs: dict[str, list[Charge]] = {}
    for debit in book.debits:
        runs.setdefault(debit.charge.run, []).append(debit.charge)
    return [
        {
            "run": run[:12], "league": charges[0].league, "answers": len(charges),
            "rounds": sorted({charge.round for charge in charges if charge.purpose == "training"}),
            "epsilon_alone": ledger.budget.spent([charge.for_user() for charge in charges]),
        }
        for run, charges in runs.items()
    ]  # fmt: skip


def _next_round(ledger: Ledger, book: Book, config: LeagueConfig | None) -> dict[str, Any] | None:
    """What one more round costs now, how many fit, and when the budget ends; None where nothing says what a round
    is."""
    price = _price(book, config)
    if price is None:
        return None
    counted, mechanism = ledger.budget.counted(book, ledger.now(book)), price.for_user()
    cost = ledger.budget.spent([*counted, mechanism]) - ledger.budget.spent(counted)
    fit = ledger.budget.rounds_left(counted, mechanism)
    facts: dict[str, Any] = {"epsilon": cost, "rounds_left": fit}
    if config is not None:
        rounds_done = len({d.charge.round for d in book.debits if d.charge.run == config.digest()})
        due = config.rounds.count - rounds_done
        facts |= {
            "rounds_due": due,
            "ends_after_round": rounds_done + fit if fit is not None and fit < due else None,
        }
    return facts


def _price(book: Book, config: LeagueConfig | None) -> Charge | None:
    if config is not None:
        if config.privacy.mode == "off":
            return None
        from clients.ledger.rounds import price_of_round

        return price_of_round(config, 1)
    training = [debit.charge for debit in book.debits if debit.charge.purpose == "training"]
    return training[-1] if training else None

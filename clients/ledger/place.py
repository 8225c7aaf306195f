"""Where a site's ledger is stored, and how it is opened.

| the site | its ledger |
|---|---|
| has a vault | objects `ledger/lines-…` of the vault, open to the roles that the matrix allows |
| is a plain folder | the folder `ledger/` beside `site.toml`, or where `[policy] ledger` says |
| is synthetic or public (`[policy] ledger = "run"`) | the run's own private folder: each run has a new ledger |

Invariant: all runs and leagues that use the same site share one ledger, except for a site that says "run".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.data.source import open_vault
from clients.ingest import read_site_info
from clients.ledger.budget import Budget
from clients.ledger.ledger import Ledger
from clients.ledger.stores import FolderStore, VaultStore
from clients.vault import Vault
from common.schema import SiteInfo

RUN = "run"


@contextmanager
def open_ledger(folder: Path, run_private: Path | None, vault: Vault | None = None) -> Iterator[Ledger]:
    """The ledger of a site folder, with the budget that its `site.toml` states at this moment.

    Parameters
    ----------
    run_private : the site's private folder in a run; None outside a run.
    vault : the site's vault, if another role than that of training has opened it already.

    Raises
    ------
    HansaError : `site.toml` or the vault can't be opened.
    """
    info = read_site_info(folder)
    if not info.vault.path:
        yield Ledger(FolderStore(folder_of(info, folder, run_private)), Budget.of(info.policy), info.name)
        return
    with vault or open_vault(folder, info) as opened:
        yield Ledger(VaultStore(opened), Budget.of(info.policy), info.name)


def folder_of(info: SiteInfo, folder: Path, run_private: Path | None) -> Path:
    """The folder of the ledger of a site without a vault."""
    if info.policy.ledger == RUN:
        return (run_private or folder) / "ledger"
    return folder / info.policy.ledger

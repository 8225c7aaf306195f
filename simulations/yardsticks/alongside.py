"""The yardsticks in a process of their own, while the league trains: centralised, and the league without privacy.

It shares only the sites' cached features with the league, so it waits until the first round has ended: by then all
sites are encoded. Invariant: it only saves time. If it fails or is stopped, it leaves no results, and the caller trains
the yardsticks itself and is told why.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from clients.trainer import open_site
from common.errors import HansaError
from common.files import read_lines
from common.runtime.progress import RoundProgress, Style
from common.storage.run_folder import RunFolder
from simulations.engines.forkserver import fork_server
from simulations.yardsticks.centralised import centralised
from simulations.yardsticks.non_private import folder_beside, non_private, wanted, without_privacy

_POLL_S = 0.2


def yardsticks_alongside(folder: RunFolder, workers: int) -> Connection:
    """Start a process that trains the yardsticks; it closes its pipe when done, and closing the pipe here ends it."""
    return fork_server().fork("yardsticks", {"root": str(folder.root), "workers": workers})


def await_yardsticks(pipe: Connection, folder: RunFolder, style: Style) -> None:
    """Wait until that process has ended, and show how far the league without privacy has come."""
    if wanted(folder, folder.config()):
        league, shown = folder_beside(folder), 0
        with RoundProgress(style) as progress:
            progress.start("without privacy", total=without_privacy(folder.config()).rounds.count)
            while not pipe.poll(_POLL_S):
                if (rounds_done := len(read_lines(league.rounds_file))) > shown:
                    progress.step(rounds_done)
                    shown = rounds_done
    pipe.poll(None)


def train(pipe: Connection, order: dict[str, Any]) -> None:
    """The work of that process, with the run folder ``root`` and a pool of ``workers``."""
    torch.set_num_threads(1)
    folder = RunFolder(Path(order["root"]))
    while not folder.rounds_file.exists():
        time.sleep(_POLL_S)
    config = folder.config()
    try:
        sites = [open_site(Path(site.folder), config) for site in folder.sites() if not site.held_out]
        centralised(sites, config, folder.site_out, lambda epoch, loss: None)
        non_private(folder, config, "pool", order["workers"], "silent")
    except HansaError:
        return  # the caller tries again, and tells

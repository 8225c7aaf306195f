"""The yardsticks in a process of their own, while the league trains: centralised, and the league without privacy.

It shares nothing with the league but the sites' cached features, so it waits until the first round has ended: by then
all sites are encoded. Invariant: it only saves time. Where it fails or is stopped it leaves no results, and the caller
trains the yardsticks itself and hears why.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from clients.site import open_site
from common.errors import HansaError
from common.run_folder import RunFolder
from simulations.centralised import centralised
from simulations.non_private import non_private

_POLL_S = 0.2


@contextmanager
def yardsticks_alongside(folder: RunFolder, workers: int) -> Iterator[BaseProcess]:
    """A process that trains the yardsticks; where the body fails, it's ended at once."""
    process = multiprocessing.get_context("spawn").Process(
        target=_work, args=(str(folder.root), os.getpid(), workers), daemon=True
    )
    process.start()
    try:
        yield process
    finally:
        process.terminate()
        process.join()


def _work(root: str, parent: int, workers: int) -> None:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    folder = RunFolder(Path(root))
    while not folder.rounds_file.exists():
        time.sleep(_POLL_S)
    config = folder.config()
    try:
        sites = [open_site(Path(site.folder), config) for site in folder.sites() if not site.held_out]
        centralised(sites, config, folder.site_out, lambda epoch, loss: None)
        non_private(folder, config, "pool", workers, "silent")
    except HansaError:
        raise SystemExit(1) from None  # the caller tries again, and tells


def _leave_with(parent: int) -> None:
    """End where the run was killed: nobody waits for the figures any more, and who resumes writes them itself."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)

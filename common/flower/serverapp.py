"""The coordinator's app, run in this process until its run has ended."""

from __future__ import annotations

from queue import Queue

from flwr.superlink.runtime import run_serverapp


def carry_out(superlink: str, token: str, authority: bytes) -> None:
    """Run the app of a task.

    Parameters
    ----------
    superlink : host:port of the SuperLink.
    token : the task's, as `Tasks.take` gave it.
    authority : PEM of who signed the SuperLink's certificate.
    """
    run_serverapp(superlink, Queue(), token, False, authority, None, False)

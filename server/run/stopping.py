"""Stop a run between two rounds because somebody asked for it.

Invariant: the asking is a file in the run folder, so it reaches the run in whatever process that is, and outlives both;
it's obeyed only where everything up to then lies on the disk.
"""

from __future__ import annotations

from common.errors import RunError
from common.files import write_whole
from common.storage.run_folder import RunFolder

_FILE = "stop"


def ask_to_stop(folder: RunFolder) -> None:
    """Ask the run in a folder to stop after its round."""
    write_whole(folder.state / _FILE, b"")


def is_asked_to_stop(folder: RunFolder) -> bool:
    """Whether somebody asked."""
    return (folder.state / _FILE).exists()


def take_back(folder: RunFolder) -> None:
    """Forget that anybody asked: the run is wanted again."""
    (folder.state / _FILE).unlink(missing_ok=True)


def stop_if_asked(folder: RunFolder, round_: int) -> None:
    """End the run here where somebody asked.

    Raises
    ------
    RunError : somebody did.
    """
    if is_asked_to_stop(folder):
        raise RunError(
            f"the run was stopped after round {round_}, as asked", where=folder.root.name,
            why="everything up to that round is kept", next_step="resume the run",
        )  # fmt: skip

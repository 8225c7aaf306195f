"""The progress of a run, for the person who waits: a bar on a terminal, plain lines elsewhere, nothing for machines.

Invariant: everything goes to the standard error, so the standard output stays free for results; nothing here
changes what is computed.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Literal, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Style = Literal["auto", "bar", "plain", "silent"]


class RoundProgress:
    """Shows rounds and phases with loss, metric and time left.

    Parameters
    ----------
    style : "auto" takes a bar on a terminal and plain lines elsewhere.
    stream : where to write; the standard error by default.

    >>> with RoundProgress("silent") as progress:
    ...     progress.start("rounds", total=2)
    ...     progress.step(1, loss=0.5)
    """

    def __init__(self, style: Style = "auto", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._style = ("bar" if self._stream.isatty() else "plain") if style == "auto" else style
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title, self._total, self._first, self._began = "", 0, 0, 0.0

    def __enter__(self) -> Self:
        if self._style == "bar":
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(), console=Console(file=self._stream),
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, title: str, total: int, done: int = 0) -> None:
        """Begin a phase of `total` steps, of which `done` were done before an interruption."""
        self._title, self._total, self._first, self._began = title, total, done, time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def step(
        self, done: int, *, loss: float | None = None, metric: float | None = None, label: str = ""
    ) -> None:
        """Report that `done` steps are done, with the figures of the last one."""
        note = "  ".join(
            part
            for part in (
                label,
                f"loss {loss:.4f}" if loss is not None else "",
                f"ndcg@20 {metric:.4f}" if metric is not None else "",
            )
            if part
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif self._style == "plain":
            self._line(f"{self._title} {done}/{self._total}  {note}  {self._left(done)}".rstrip())

    def note(self, text: str) -> None:
        """One line that the reader should see, such as a site that was left out."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False)
        elif self._style == "plain":
            self._line(text)

    def _left(self, done: int) -> str:
        fresh = done - self._first
        if fresh <= 0 or done >= self._total:
            return ""
        left_s = (time.monotonic() - self._began) / fresh * (self._total - done)
        return f"about {left_s:.0f} s left"

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

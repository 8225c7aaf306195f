"""Arguments and options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PROMPT = "prompt"
"""How a passphrase is asked for unless the command line says otherwise."""
RunArgument = Annotated[Path, typer.Argument(help="The run folder.")]
SiteFolderArgument = Annotated[Path, typer.Argument(help="The folder that holds site.toml.")]
VaultArgument = Annotated[Path, typer.Argument(help="The vault's folder.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="A role's key file; keys/owner.key unless given.")
]
PassphraseOption = Annotated[str, typer.Option("--passphrase", help="prompt, file:PATH or fd:NUMBER.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress display.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeatable.")
]
